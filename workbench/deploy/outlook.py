"""What described devices would make of a recipe: ratios to the dense model first, milliseconds second, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from workbench.measure.devices import Energy, Forecast, Observation, Target
from workbench.measure.devices.reasons import Change, explain_on


@dataclass(frozen=True)
class Outlook:
    """One device. ``ratio``: time ÷ the dense model's there; ``ms`` of one image; both with 90 % intervals.

    ``reason`` says why nothing is gained, where that is so; ``caution`` what to know before believing the figures;
    ``anchors`` counts the measurements behind them.
    """

    device: str
    title: str
    runtime: str
    ratio: Forecast
    ms: Forecast
    energy: Energy | None
    reason: str
    anchors: int
    caution: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {**asdict(self), "energy": self.energy and self.energy.to_json()}


def look_ahead(
    change: Change, targets: Sequence[Target], anchors: Mapping[str, Sequence[Observation]] | None = None
) -> tuple[Outlook, ...]:
    """Return what each of ``targets`` would make of ``change``; ``anchors``: a person's own measurements by device."""
    found = []
    for device in targets:
        own = (anchors or {}).get(device.name)
        target = device.with_anchors(own) if own else device
        ratio = target.ratio(change.before, change.after)
        found.append(
            Outlook(
                target.name, target.description.title, target.description.runtime, ratio,
                target.forecast(*change.after), target.energy(target.latency_of(*change.after)),
                explain_on(target, change, ratio), target.anchors,
                target.caution,
            )
        )  # fmt: skip
    return tuple(found)
