"""Energy of an image: the time it takes, times the power drawn meanwhile.

Power is known less well than time: a data sheet's figure is of the whole chip or board under some load. Its
interval is that of the time, widened by the range of power between half busy and fully busy (the figure is
the geometric mean of both). Where a file gives no power, there is no estimate.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from workbench.measure.estimate import Latency

from .description import Description


@dataclass(frozen=True)
class Energy:
    """Millijoules of one image with their interval; ``scope`` says of what: the chip, the board."""

    mj: float
    low: float
    high: float
    scope: str
    kind: str = "predicted"

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


def energy_of(description: Description, latency: Latency) -> Energy | None:
    """Return the energy of one batch that takes ``latency``; None where the device's power isn't known."""
    power = description.power
    if power is None:
        return None
    least = power.idle_w + 0.5 * (power.busy_w - power.idle_w)
    watts = math.sqrt(least * power.busy_w)
    return Energy(latency.ms * watts, latency.low * least, latency.high * power.busy_w, power.scope)
