"""A device described in a YAML file: what its data sheet says, and what was measured on it.

A file that is wrong is refused with the field and the line. The files that ship with the project are in
``described/``; a person's own go to ``devices`` among their files, and win over those of the same name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from workbench.errors import WorkbenchError

from .roofline import Machine

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$")]
Positive = Annotated[float, Field(gt=0)]
NumberType = Literal["fp32", "tf32", "fp16", "bf16", "int8", "int4"]


class DeviceError(WorkbenchError):
    """A device that isn't there, or whose file is broken."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Peak(_Part):
    """GOP/s of all cores together in one number type (a multiply-accumulate is two), by which instructions."""

    dtype: NumberType
    gops: Positive
    instructions: str


class Memory(_Part):
    """Bandwidth in GB/s as the data sheet has it, and sizes in bytes where known."""

    gbs: Positive
    bytes: int | None = Field(None, gt=0)
    flash_bytes: int | None = Field(None, gt=0)


class Cache(_Part):
    """A level of cache; ``shared`` by all cores or for each."""

    level: Literal[1, 2, 3, 4]
    bytes: int = Field(gt=0)
    shared: bool = False


class Sparsity(_Part):
    """Two of four weights kept: the factor that the data sheet gives products, and that networks saw in practice."""

    pattern: Literal["2:4"]
    promised: float = Field(ge=1)
    practice: float = Field(ge=1)


class Power(_Part):
    """Watts of the device while idle and while it computes, and what of it they are."""

    idle_w: float = Field(ge=0)
    busy_w: Positive
    scope: str

    @model_validator(mode="after")
    def _ordered(self) -> Power:
        if self.busy_w < self.idle_w:
            raise ValueError("busy_w is less than idle_w")
        return self


class Anchor(_Part):
    """A published measurement of one network (see ``datasets/published_latencies/networks.csv``)."""

    network: str
    dtype: Literal["float", "int8"]
    ms: Positive
    source: str


class Source(_Part):
    """Where figures of the file are from."""

    of: str
    url: str


class Description(_Part):
    """A device. ``floats``: the number type in which its runtime computes a float network.

    ``alignment``: channels that its instructions work on at a time. ``overhead_us``: what a kernel costs beside
    its work, as the maker says; measurements correct it. ``table``: a published configuration whose measurements
    are anchors. ``runtime``: what they were measured in, and so what predictions are for.
    """

    name: Name
    title: str
    family: Literal["cpu", "mcu", "gpu"]
    core: str
    cores: int = Field(ge=1)
    threads: int = Field(ge=1)
    clock_ghz: Positive
    runtime: str
    floats: Literal["fp32", "tf32", "fp16"] = "fp32"
    in_order: bool = False
    x86: bool = False
    peaks: tuple[Peak, ...] = Field(min_length=1)
    memory: Memory
    caches: tuple[Cache, ...] = ()
    alignment: int = Field(4, ge=1, le=256)
    overhead_us: Positive | None = None
    sparsity: Sparsity | None = None
    power: Power | None = None
    table: str | None = None
    anchors: tuple[Anchor, ...] = ()
    sources: tuple[Source, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _has_float_peak(self) -> Description:
        if not any(peak.dtype == self.floats for peak in self.peaks):
            raise ValueError(f"peaks has none for {self.floats}, in which floats are computed")
        return self

    def peak(self, dtype: NumberType) -> float | None:
        """GOP/s in a number type, None where there are no instructions for it."""
        found = [peak.gops for peak in self.peaks if peak.dtype == dtype]
        return max(found) if found else None

    @property
    def machine(self) -> Machine:
        """What the roofline needs of it, for the threads used."""
        share = min(1.0, self.threads / self.cores) if self.family != "gpu" else 1.0
        floats, int8 = self.peak(self.floats), self.peak("int8")
        assert floats is not None
        return Machine(
            family=self.family, float_peak=floats * share, int8_peak=int8 * share if int8 else None,
            bandwidth=self.memory.gbs, clock=self.clock_ghz,
            cores=self.threads if self.family != "gpu" else 1, float_bytes=2 if self.floats == "fp16" else 4,
            alignment=self.alignment, in_order=self.in_order, x86=self.x86,
            sparse_gain=self.sparsity.practice if self.sparsity else 1.0, overhead_us=self.overhead_us,
        )  # fmt: skip


def read_description(path: Path) -> Description:
    """Read a device file; raise :class:`DeviceError` with the field and the line where it is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise DeviceError(f"The device file '{path}' cannot be read: {reason}.") from error
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # a ValueError where it looks like a date and is none
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it is no YAML"
        raise DeviceError(f"'{path.name}'{line}: {problem}.") from error
    if not isinstance(content, dict):
        raise DeviceError(f"'{path.name}', line 1: a device file is a mapping of fields to values.")
    try:
        return Description.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        location = tuple(part for part in first["loc"] if not str(part).startswith("function-"))
        field = ".".join(map(str, location)) or "the file"
        message = first["msg"].removeprefix("Value error, ")
        raise DeviceError(f"'{path.name}', line {_line(tree, location)}, field {field}: {message}.") from error


def _line(node: Any, location: tuple[Any, ...]) -> int:
    """Return the line of a field, or of the innermost thing that holds it where it is missing."""
    line = int(node.start_mark.line)
    for step in location:
        found = None
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == step), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            found = (node.value[step], node.value[step])
        if found is None:
            break
        line, node = int(found[0].start_mark.line), found[1]
    return line + 1
