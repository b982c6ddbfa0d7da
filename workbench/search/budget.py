"""What an answer may cost: bytes, milliseconds, multiply-accumulates, or accuracy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from workbench.errors import WorkbenchError

Kind = Literal["bytes", "runtime_bytes", "ms", "macs", "drop"]


@dataclass(frozen=True)
class Budget:
    """At most so much of one ``kind``.

    ``bytes``: the packed archive. ``runtime_bytes``: the ONNX file a runtime loads. ``ms``: predicted latency of one
    image on this machine. ``macs``: multiply-accumulates of one image. ``drop``: accuracy lost, a share of the images;
    then the archive is made as small as it allows. Raises ``WorkbenchError`` for a limit that means nothing.
    """

    kind: Kind
    limit: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.limit) or self.limit < 0 or (self.limit == 0 and self.kind != "drop"):
            least = "0 or more" if self.kind == "drop" else "above 0"
            limit = 100 * self.limit if self.kind == "drop" else self.limit
            raise WorkbenchError(f"The budget is {limit:g} {_UNITS[self.kind]}, but it should be {least}.")

    @property
    def counted(self) -> Kind:
        """What the options' costs are counted in."""
        return "bytes" if self.kind == "drop" else self.kind

    def say(self, amount: float | None = None) -> str:
        """Return the limit, or another amount of the same kind, for a person; who asks for that much gets it.

        >>> Budget("bytes", 100_000).say(), Budget("drop", 0.005).say(), Budget("ms", 1).say(0.0921)
        ('100,000 bytes', '0.5 points', '0.093 ms')
        """
        limit = amount is None
        amount = self.limit if amount is None else amount
        if self.kind == "drop":
            points = 100 * amount
            return f"{points:.2g} points" if limit or points <= 0 else f"{_up(points, _two_digits(points)):g} points"
        if self.kind == "ms":
            return f"{amount if limit else _up(amount, 3):.3f} ms"
        return f"{math.ceil(amount):,} {_UNITS[self.kind]}"


def _two_digits(amount: float) -> int:
    """Return the decimals that show two digits of ``amount``."""
    return 1 - math.floor(math.log10(amount))


def _up(amount: float, decimals: int) -> float:
    """Return ``amount`` rounded up; what is only off by how a computer counts stays."""
    return math.ceil(round(amount * 10.0**decimals, 6)) / 10.0**decimals


_UNITS: dict[Kind, str] = {
    "bytes": "bytes",
    "runtime_bytes": "bytes in a runtime's file",
    "ms": "ms",
    "macs": "MACs",
    "drop": "points",
}
