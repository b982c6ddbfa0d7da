"""A described device as a place where latency is predicted: its file, and what is believed of its machine."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from workbench.counting import counted
from workbench.data.paths import user_folder
from workbench.measure.estimate import Latency
from workbench.measure.latency.kernel import Kernel

from .calibrate import Belief, Forecast, Observation, calibrate, forecast, forecast_ratio, part
from .description import Description, DeviceError, read_description
from .energy import Energy, energy_of
from .population import populations
from .published import configurations, networks
from .roofline import TERMS, Dtype, Machine, seconds
from .work import Work, work_of

#: Leave-one-out on published cards (``python -m tests.bench.devices``): half of all predictions are off by more than
#: 46 % after one measurement and by more than 38 % after three. A term for the length of sums, which short kernels
#: on many cores wait for, changed neither by more than 1.1 points. The stated 90 % intervals held 89 % of them.
STRAYING = (
    "Milliseconds on graphics cards are a rough guide, even after a measurement: networks that do as much work take "
    "very different times there, and the intervals are as wide."
)
_SHIPPED = Path(__file__).parent / "described"


@dataclass(frozen=True)
class Target:
    """A device and what is known of it: from its data sheet, published tables, and a person's own anchors.

    ``anchors``: how many measurements stand behind ``belief``.
    """

    description: Description
    machine: Machine
    belief: Belief
    anchors: int

    @property
    def name(self) -> str:
        """The name by which it is asked for."""
        return self.description.name

    @property
    def caution(self) -> str:
        """What to know before believing a prediction, in a sentence; empty where there is nothing out of the usual."""
        return STRAYING if self.description.family == "gpu" else ""

    def with_anchors(self, observations: Sequence[Observation]) -> Target:
        """Return the target after a person's own measurements, in whatever runtime they were made."""
        belief = calibrate(self.machine, self.belief.elsewhere(), observations)
        return replace(self, belief=belief, anchors=self.anchors + len(observations))

    def forecast(self, work: Work, dtype: Dtype) -> Forecast:
        """Return the milliseconds of one image with their 90 % interval."""
        return forecast(self.machine, self.belief, work, dtype)

    def ratio(self, before: tuple[Work, Dtype], after: tuple[Work, Dtype]) -> Forecast:
        """Return time after ÷ time before with its 90 % interval."""
        return forecast_ratio(self.machine, self.belief, before, after)

    def latency(self, kernels: Sequence[Kernel], sparse: Sequence[str] = ()) -> Latency:
        """Return the latency of ``kernels`` at batch 1; ``sparse`` names the layers that keep 2 of 4 weights."""
        return self.latency_of(work_of(kernels).with_sparse(sparse), dtype_of(kernels))

    def latency_of(self, work: Work, dtype: Dtype) -> Latency:
        """Return the latency of ``work`` at batch 1."""
        found = self.forecast(work, dtype)
        # a Latency's interval is one of 95 %
        reach = math.log(found.width) * 1.96 / 1.645
        low, high = found.ms * math.exp(-reach), found.ms * math.exp(reach)
        return Latency(self.description.title, self.description.runtime, 1, found.ms, low, high, "predicted")

    def times(self, kernels: Sequence[Kernel]) -> dict[str, float]:
        """Return weight → seconds of its kernels; "" for those without one."""
        work, dtype = work_of(kernels), dtype_of(kernels)
        found: dict[str, float] = {}
        spent, _ = seconds(work, self.machine, dtype, part(self.belief.mean, dtype))
        for task, time in zip(work.tasks, spent, strict=True):
            found[task.name] = found.get(task.name, 0.0) + float(time)
        return found

    def energy(self, latency: Latency) -> Energy | None:
        """Return the energy of one image, None where nothing is known of the device's power."""
        return energy_of(self.description, latency)

    def to_json(self) -> dict[str, Any]:
        """Return the entry of ``workbench devices --json``."""
        description = self.description
        reach = counted(self.anchors, "measurement") if self.anchors else "its data sheet, with a wide interval"
        threads = counted(description.threads, "thread")
        overhead = self.machine.overhead * 1e6 * float(np.exp(self.belief.mean[len(TERMS) - 1]))
        return {
            **description.model_dump(mode="json", exclude={"table", "anchors"}), "kind": "described",
            "anchors": self.anchors, "overhead_us": round(overhead, 2),
            "summary": f"{description.title}, {description.runtime}, {threads}, predicted from {reach}",
            "caution": self.caution,
        }  # fmt: skip


def dtype_of(kernels: Sequence[Kernel]) -> Dtype:
    """Return the number type that the multiplications are in."""
    macs = {dtype: sum(kernel.macs for kernel in kernels if kernel.dtype == dtype) for dtype in ("fp32", "int8")}
    return "int8" if macs["int8"] > macs["fp32"] else "float"


def device_files() -> dict[str, Path]:
    """Return device name → its file: those that ship, and a person's own, which win."""
    own = user_folder() / "devices"
    found = sorted(_SHIPPED.glob("*.yaml")) + (sorted(own.glob("*.yaml")) if own.is_dir() else [])
    return {path.stem: path for path in found}


def device_titles() -> dict[str, str]:
    """Return device name → title, without checking the rest of the files: quick enough to open a page with."""
    found = {}
    for name, path in device_files().items():
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        titles = [line.removeprefix("title:").strip().strip("\"'") for line in lines if line.startswith("title:")]
        found[name] = titles[0] if titles else name
    return found


def targets() -> tuple[Target, ...]:
    """Return all described devices; raise :class:`DeviceError` for a broken file."""
    return tuple(_open(path, path.stat().st_mtime_ns) for path in device_files().values())


def find_target(name: str) -> Target:
    """Return the described device ``name``, or that of a file's path.

    Raises:
        DeviceError: there is none of that name, or its file is broken.
    """
    files = device_files()
    path = Path(name) if name.endswith((".yaml", ".yml")) else files.get(name)
    if path is None:
        raise DeviceError(f"There is no device '{name}'; there is this-machine, {', '.join(files)}.")
    if not path.is_file():
        raise DeviceError(f"There is no device file '{path}'.")
    return _open(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _open(path: Path, changed: int) -> Target:
    """Read a device and calibrate it; kept until the file changes."""
    description = read_description(path)
    if description.name != path.stem:
        raise DeviceError(
            f"'{path.name}', field name: it is '{description.name}', but the file's name is '{path.stem}'."
        )
    machine = description.machine
    seen = [Observation(_network(description, entry.network), entry.dtype, entry.ms) for entry in description.anchors]
    if description.table is not None:
        if description.table not in configurations():
            raise DeviceError(f"'{path.name}', field table: no published configuration is named '{description.table}'.")
        seen += configurations()[description.table].observations()
    belief = populations()[description.family].belief(machine)
    if description.runtime not in {entry.runtime for entry in configurations().values()}:
        belief = belief.elsewhere()
    belief = calibrate(machine, belief, seen)
    return Target(description, machine, belief, len(seen))


def _network(description: Description, name: str) -> Work:
    if name not in networks():
        raise DeviceError(f"Device '{description.name}', field anchors: no network is named '{name}'.")
    return networks()[name]
