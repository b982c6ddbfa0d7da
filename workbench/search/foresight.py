"""From the divergences of units to the accuracy of a whole recipe, before it is run.

*Divergence.* That of a recipe is foreseen as the sum over its units, each times a weight, beside what the recipe's
other steps do on their own. The weights are 1 until
whole recipes were measured; then they are fitted to these (ridge regression towards one factor common to all), since
damages do not simply add: where layers follow each other, errors meet.

*Accuracy.* What a divergence costs in accuracy is read off a monotone curve (isotonic regression) through all cells of
the sweep and, heavier, the recipes measured in full. The interval holds 95 % of the errors that the curve makes on
what it was fitted to, in relation to the loss foreseen.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from workbench.measure.estimate import Estimate

from .problem import Choice, Floats

if TYPE_CHECKING:
    from workbench.analyze.finding import Sensitivity

#: How much a recipe measured in full counts beside a cell of the sweep.
TRUST = 20.0
#: How strongly the weights are drawn to one factor for all units.
RIDGE = 1.0
#: Added to the loss foreseen, where an error is put in relation to it (a share).
NEAR = 0.004


@dataclass(frozen=True, eq=False)
class Seen:
    """A recipe measured in full: its choice, divergence (nats) and accuracy lost (a share)."""

    choice: Choice
    divergence: float
    lost: float


@dataclass(frozen=True, eq=False)
class Foresight:
    """Foresees recipes of one problem from ``damage``, each unit's options' divergences as measured alone.

    ``ground`` is the recipe with its other steps only, where it has any.
    """

    damage: tuple[Floats, ...]
    baseline: Estimate
    cells: tuple[Floats, Floats]
    seen: tuple[Seen, ...] = field(default=())
    ground: Seen | None = None

    @classmethod
    def of(cls, found: Sensitivity, damage: tuple[Floats, ...], ground: Seen | None = None) -> Foresight:
        """Return the foresight of a sweep."""
        kl, lost = found.measured["kl"].value.ravel(), found.lost.ravel()
        usable = np.isfinite(kl) & np.isfinite(lost)
        return cls(damage, found.baseline, (kl[usable], lost[usable]), ground=ground)

    def learning(self, seen: tuple[Seen, ...]) -> Foresight:
        """Return the same, refitted to whole recipes."""
        return replace(self, seen=seen)

    @property
    def weighted(self) -> tuple[Floats, ...]:
        """The options' divergences as they count within a whole recipe."""
        weights = self._weights()
        return tuple(weight * damage for weight, damage in zip(weights, self.damage, strict=True))

    def divergence(self, choice: Choice) -> float:
        """Return the divergence foreseen, nats."""
        chosen = sum(damage[option] for damage, option in zip(self.weighted, choice, strict=True))
        return float(chosen) + self._beneath

    def accuracy(self, choice: Choice) -> Estimate:
        """Return the accuracy foreseen."""
        base = self.baseline
        lost = float(self.lost(self.divergence(choice)))
        half = self._width() * (NEAR + max(0.0, lost))
        value = max(0.0, base.value - lost)
        return Estimate(value, max(0.0, value - half), min(1.0, value + half), 0, "predicted", base.split)

    def lost(self, divergence: float | Floats) -> Floats:
        """Return the accuracy that a divergence costs, a share."""
        places, levels = self._curve()
        rate = levels[-1] / places[-1] if places[-1] > 0 else 0.0
        beyond = np.maximum(0.0, np.asarray(divergence) - places[-1]) * rate
        return np.asarray(np.interp(divergence, places, levels) + beyond)

    def affordable(self, lost: float) -> float:
        """Return the largest divergence of a choice that is foreseen to cost at most ``lost`` of the accuracy."""
        return max(0.0, self._affordable(lost) - self._beneath)

    @property
    def _beneath(self) -> float:
        """The divergence of the recipe's other steps."""
        return self.ground.divergence if self.ground else 0.0

    @property
    def _measured(self) -> tuple[Seen, ...]:
        return self.seen if self.ground is None else (self.ground, *self.seen)

    def _affordable(self, lost: float) -> float:
        places, levels = self._curve()
        if lost >= levels[-1]:
            rate = levels[-1] / places[-1] if places[-1] > 0 else 0.0
            return float(places[-1] + (lost - levels[-1]) / rate) if rate > 0 else float("inf")
        return float(np.interp(lost, levels + 1e-12 * np.arange(len(levels)), places))

    def _curve(self) -> tuple[Floats, Floats]:
        """Return divergences and what each costs; both rise from zero."""
        from scipy.optimize import isotonic_regression

        kl = np.r_[0.0, self.cells[0], [each.divergence for each in self._measured]]
        lost = np.r_[0.0, self.cells[1], [each.lost for each in self._measured]]
        weights = np.r_[1e3, np.ones(len(self.cells[0])), np.full(len(self._measured), TRUST)]
        order = np.argsort(kl, kind="stable")
        fitted = isotonic_regression(lost[order], weights=weights[order]).x
        places, first = np.unique(kl[order], return_index=True)
        return places, np.maximum(0.0, np.maximum.accumulate(fitted[first]))

    def _width(self) -> float:
        """Return the half of the interval in relation to the loss foreseen."""
        kl = np.r_[self.cells[0], [each.divergence for each in self._measured]]
        true = np.r_[self.cells[1], [each.lost for each in self._measured]]
        lost = self.lost(kl)
        errors = np.abs(lost - true) / (NEAR + lost)
        whole = [
            abs(float(self.lost(self.divergence(each.choice))) - each.lost)
            / (NEAR + float(self.lost(self.divergence(each.choice))))
            for each in self.seen
        ]
        return float(max([np.quantile(errors, 0.95) if len(errors) else 1.0, *whole]))

    def _weights(self) -> Floats:
        """Return how much each unit's own divergence counts within whole recipes."""
        units = len(self.damage)
        seen = [each for each in self.seen if each.divergence > self._beneath and np.isfinite(each.divergence)]
        parts = np.array([[damage[at] for damage, at in zip(self.damage, each.choice, strict=True)] for each in seen])
        sums = parts.sum(1) if len(seen) else np.empty(0)
        keep = sums > 0
        if not keep.any():
            return np.ones(units)
        parts, sums = parts[keep], sums[keep]
        true = np.array([each.divergence for each in seen])[keep] - self._beneath
        common = float(np.exp(np.mean(np.log(true / sums))))
        # relative errors count: a recipe that diverges ten times as much must not decide all
        rows, goal = parts * common / true[:, None], np.ones(len(true))
        share = np.linalg.lstsq(
            np.vstack([rows, np.sqrt(RIDGE / units) * np.eye(units)]),
            np.concatenate([goal, np.full(units, np.sqrt(RIDGE / units))]),
            rcond=None,
        )[0]
        return np.asarray(common * np.clip(share, 0.3, 3.0))
