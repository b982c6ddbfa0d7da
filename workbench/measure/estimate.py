"""The figures a person reads, each with what it stands on: accuracy, size and latency."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Kind = Literal["predicted", "sampled", "exact", "measured"]


@dataclass(frozen=True)
class Estimate:
    """A share (0..1) or mean with its 95 % interval ``low``..``high`` and the ``n`` images behind it.

    ``kind`` is ``predicted`` (from a surrogate), ``sampled`` (part of the split was run) or ``exact``
    (all of it was run, and then ``low == value == high``).
    """

    value: float
    low: float
    high: float
    n: int
    kind: Kind
    split: str

    @property
    def half_width(self) -> float:
        """Half of the interval's width."""
        return (self.high - self.low) / 2

    @classmethod
    def exact(cls, value: float, n: int, split: str) -> Estimate:
        """Return the figure of a whole split."""
        return cls(value, value, value, n, "exact", split)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Size:
    """Bytes of the packed archive, and the two sizes it must not be mixed up with.

    ``dense_fp32_bytes``: the dense fp32 parameters and buffers. ``runtime_bytes``: the ONNX file a
    runtime would load. ``entropy_bytes``: the zero-order entropy bound of the stored codes.
    """

    bytes: int
    dense_fp32_bytes: int
    runtime_bytes: int | None = None
    entropy_bytes: int | None = None
    kind: Kind = "exact"

    @property
    def ratio(self) -> float:
        """How many times smaller than dense fp32 the archive is."""
        return self.dense_fp32_bytes / self.bytes

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {**asdict(self), "ratio": self.ratio}


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one batch on a device, with a 95 % interval, and in words why it is what it is."""

    device: str
    runtime: str
    batch: int
    ms: float
    low: float
    high: float
    kind: Kind
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)
