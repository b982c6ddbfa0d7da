"""The published measurements that ship with the project: networks, machines, milliseconds, microjoules.

See ``datasets/published_latencies/README.md`` for where they come from.
"""

from __future__ import annotations

import csv
import functools
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast

from workbench.data.paths import BUNDLED

from .calibrate import Observation
from .roofline import Dtype, Machine
from .work import Task, Work


@dataclass(frozen=True)
class Measured:
    """A network's milliseconds in a number type, and its energy where that was measured."""

    network: str
    dtype: Dtype
    ms: float
    microjoules: float | None = None


@dataclass(frozen=True)
class Configuration:
    """A machine with so many threads in one runtime, and what was measured on it.

    ``soc``: chips that are the same, or nearly, share it.
    """

    name: str
    title: str
    soc: str
    runtime: str
    source: str
    machine: Machine
    measured: tuple[Measured, ...]

    def observations(self, dtype: Dtype | None = None) -> list[Observation]:
        """Return the measurements, of one number type or all."""
        known = networks()
        return [
            Observation(known[item.network], item.dtype, item.ms)
            for item in self.measured
            if dtype in (None, item.dtype)
        ]


@functools.cache
def networks() -> Mapping[str, Work]:
    """Return network → its work."""
    tasks: dict[str, list[Task]] = defaultdict(list)
    for row in _rows("networks.csv"):
        tasks[row["network"]].append(
            Task(
                row["op"], inputs=int(row["inputs"]), outputs=int(row["outputs"]), macs=int(row["macs"]),
                activations=int(row["activations"]), weights=int(row["weights"]), count=int(row["count"]),
            )
        )  # fmt: skip
    return MappingProxyType({name: Work(tuple(entries)) for name, entries in tasks.items()})


@functools.cache
def configurations() -> Mapping[str, Configuration]:
    """Return configuration → machine and measurements."""
    measured: dict[str, list[Measured]] = defaultdict(list)
    for row in _rows("latencies.csv"):
        energy = float(row["microjoules"]) if row["microjoules"] else None
        measured[row["configuration"]].append(
            Measured(row["network"], cast("Dtype", row["dtype"]), float(row["ms"]), energy)
        )
    return MappingProxyType({
        row["configuration"]: Configuration(
            row["configuration"], row["title"], row["soc"], row["runtime"], row["source"], _machine(row),
            tuple(measured[row["configuration"]]),
        )
        for row in _rows("configurations.csv")
    })  # fmt: skip


def _machine(row: dict[str, str]) -> Machine:
    return Machine(
        family=row["family"],  # type: ignore[arg-type]
        float_peak=float(row["float_gflops"]), int8_peak=float(row["int8_gops"]) if row["int8_gops"] else None,
        bandwidth=float(row["memory_gbs"]), clock=float(row["ghz"]), cores=int(row["cores"] or 1),
        float_bytes=int(row["float_bytes"]), alignment=int(row["alignment"]),
        in_order=row["in_order"] == "1", x86=row["x86"] == "1",
    )  # fmt: skip


def _rows(name: str) -> Iterator[dict[str, str]]:
    with (BUNDLED / "published_latencies" / name).open(newline="") as file:
        yield from csv.DictReader(file)
