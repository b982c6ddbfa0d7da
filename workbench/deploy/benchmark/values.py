"""What a measurement says: intervals, one file's figures, and how files compare."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from workbench.measure.latency.measured import median_interval

from .engines import KernelRow
from .noise import Noise


@dataclass(frozen=True)
class Interval:
    """A median with its 95 % interval from order statistics."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Any) -> Interval:
        """Return the interval of independent ``values``."""
        low, median, high = median_interval(values)
        return cls(median, low, high)

    @property
    def half_width(self) -> float:
        """Half of the width, as a share of the median."""
        return (self.high - self.low) / (2 * self.median)

    def scaled(self, factor: float) -> Interval:
        """Return the interval in another unit."""
        return Interval(self.median * factor, self.low * factor, self.high * factor)

    def rate(self, count: float) -> Interval:
        """Return ``count`` ÷ the interval."""
        return Interval(count / self.median, count / self.high, count / self.low)

    def to_json(self) -> dict[str, float]:
        """Return plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Memory:
    """Resident bytes of the process: with the runtime but no model, and at its peak while loading and running."""

    empty_bytes: int
    peak_bytes: int

    @property
    def above_bytes(self) -> int:
        """What the model adds."""
        return max(0, self.peak_bytes - self.empty_bytes)


@dataclass(frozen=True)
class Benchmark:
    """One file in one runtime on this machine.

    ``ms``: of a batch, warm; ``throughput``: inputs a second, one batch after the other. ``ratio``: time as
    a multiple of the first file's in the same rounds, None for that one. ``load_ms``: opening the file in a
    fresh process; ``first_ms``: its first run. ``kernels``: the runtime's operators, the slowest first.
    """

    file: str
    bytes: int
    runtime: str
    device: str
    threads: int
    cores: tuple[int, ...]
    batch: int
    inputs: dict[str, list[int]]
    runs: int
    rounds: int
    ms: Interval
    throughput: Interval
    ratio: Interval | None
    load_ms: float
    first_ms: float
    memory: Memory | None
    noise: Noise
    kernels: tuple[KernelRow, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        total = sum(row.ms for row in self.kernels)
        memory = {**asdict(self.memory), "above_bytes": self.memory.above_bytes} if self.memory else None
        return {
            **asdict(self), "cores": list(self.cores), "memory": memory, "noise": self.noise.to_json(),
            "kernels": [{**row.to_json(), "share": row.ms / total} for row in self.kernels],
        }  # fmt: skip
