"""Where losses do not add up: what two layers compressed together cost beyond what each costs alone.

interaction(i, j) = drop(i and j) - drop(i) - drop(j). Zero where losses add; positive where the pair is worse than the
sum, negative where one layer's damage hides the other's. All are measured in the same runs, on the same images.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.errors import WorkbenchError
from workbench.recipe import Recipe

from .finding import Floats, Question, Sensitivity
from .sensitivity import chosen_layers, shared_settings, what_to_vary
from .sweep import SensitivityJob

if TYPE_CHECKING:
    from workbench.run.executor import Executor
    from workbench.session import Session

#: Layers among which all pairs are measured, at most.
MOST = 24
#: Names a row in which two layers are compressed.
AND = " and "


@dataclass(frozen=True, eq=False)
class Interactions:
    """``value`` ``(layers, layers)``: drop(i and j) - drop(i) - drop(j), a share of the images; symmetric.

    The diagonal holds each layer's own drop. ``half`` is half the 95 % interval, 0 where all images were run;
    it is wide rather than narrow: the three intervals are taken as if they had no images in common.
    """

    layers: tuple[str, ...]
    level: Any
    value: Floats
    half: Floats
    found: Sensitivity

    @property
    def additive(self) -> bool:
        """Whether no pair's interaction differs from zero by more than its interval."""
        apart = ~np.eye(len(self.layers), dtype=bool)
        return bool((np.abs(self.value) <= self.half)[apart].all())

    def worst(self, count: int = 5) -> list[tuple[str, str, float, float]]:
        """Return the pairs furthest from adding up: two layers, the interaction, and half of its interval."""
        pairs = list(combinations(range(len(self.layers)), 2))
        pairs.sort(key=lambda pair: -abs(self.value[pair]))
        names = self.layers
        return [(names[i], names[j], float(self.value[i, j]), float(self.half[i, j])) for i, j in pairs[:count]]

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "layers": list(self.layers),
            "level": self.level,
            "baseline": self.found.baseline.to_json(),
            "interaction": self.value.tolist(),
            "half_width": self.half.tolist(),
        }


def measure_interactions(
    session: Session,
    layers: Iterable[str],
    technique: str = "prune",
    *,
    level: Any = None,
    setting: str | None = None,
    settings: Mapping[str, Any] | None = None,
    tolerance: float | None = None,
    executor: str | Executor | None = None,
) -> SensitivityJob:
    """Start measuring ``layers`` alone and in pairs at ``level``; ``interactions_of`` reads the result.

    ``level`` is the technique's middle one unless said; ``settings`` are its other settings. Raises
    ``WorkbenchError`` for fewer than two layers, more than ``MOST``, or what ``measure_sensitivity`` refuses.
    """
    names = chosen_layers(session, layers)
    if not 2 <= len(names) <= MOST:
        raise WorkbenchError(f"Interactions are between 2 to {MOST} layers, and {len(names)} are chosen.")
    dial, levels = what_to_vary(technique, setting, None if level is None else [level])
    chosen = levels[len(levels) // 2]
    pairs = list(combinations(names, 2))
    rows = (*names, *(AND.join(pair) for pair in pairs))
    groups = (*((name,) for name in names), *pairs)
    # each layer by its own measure: in one ranking of both, a pair would be pruned otherwise than its layers alone
    own = shared_settings(Recipe(), technique, dial) | dict(settings or {})
    question = Question(technique, dial, (chosen,), rows, own, "together", groups)
    question.recipe(rows[0], chosen)
    return SensitivityJob(session, question, tolerance, relative=0.0, executor=executor)


def interactions_of(found: Sensitivity) -> Interactions:
    """Return the matrix from what ``measure_interactions`` found, as far as it has come (NaN where it has not)."""
    question = found.question
    names = tuple(group[0] for group in question.groups if len(group) == 1)
    drop = found.lost[:, 0]
    value, half = np.diag(drop[: len(names)]), np.zeros((len(names),) * 2)
    for row, pair in enumerate(question.groups):
        if len(pair) == 2:
            i, j = (names.index(name) for name in pair)
            value[i, j] = value[j, i] = drop[row] - drop[i] - drop[j]
            half[i, j] = half[j, i] = _half(found, [row, i, j])
    return Interactions(names, question.levels[0], value, half, found)


def _half(found: Sensitivity, rows: list[int]) -> float:
    """Return half the interval of a pair's interaction from those of the three."""
    return float(np.sqrt(np.square((found.high - found.low)[rows, 0] / 2).sum()))
