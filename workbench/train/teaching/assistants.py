"""Teacher assistants: models between teacher and student, each taught by the one before (Mirzadeh et al. 2020).

A student that is far smaller than its teacher learns more from one in between. Here these are the same model,
compressed less: every setting that says how hard a step compresses stands part of the way to the student's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.errors import WorkbenchError
from workbench.recipe import Recipe
from workbench.techniques import TECHNIQUES, Cost, Dial


def eased(recipe: Recipe, share: float) -> Recipe:
    """Return ``recipe``'s steps that need no training, each compressing ``share`` (0 to 1) as hard.

    Raises:
        WorkbenchError: no step can compress less.
    """
    steps, changed = [], False
    for step, data in zip(recipe.steps, recipe.to_data(), strict=True):
        dial = TECHNIQUES[step.technique].dial
        if step.cost is Cost.TRAINED:
            continue
        if dial is not None:
            given = {**step.settings.model_dump(include={dial.setting}), **data[step.technique]}
            data = {step.technique: _eased(given, dial, share)}
            changed = changed or data[step.technique][dial.setting] != given[dial.setting]
        steps.append(data)
    if not changed:
        raise WorkbenchError(
            "There is no model between teacher and student: no step before the distillation can compress less. "
            "Set assistants to 0."
        )
    return Recipe.parse(steps)


def _eased(settings: Mapping[str, Any], dial: Dial, share: float) -> dict[str, Any]:
    found = dict(settings)
    if isinstance(found.get(dial.setting), int | float):
        found[dial.setting] = _between(dial, found[dial.setting], share)
    overrides = found.get("overrides")
    if overrides:
        found["overrides"] = {pattern: _eased(own, dial, share) for pattern, own in overrides.items()}
    return found


def _between(dial: Dial, value: float, share: float) -> float:
    """Return the value part of the way from doing nothing: of the levels in between, where they are whole numbers."""
    if dial.percent:
        return round(dial.neutral + share * (value - dial.neutral), 4)
    harsher = -1 if dial.levels[-1] < dial.levels[0] else 1
    milder = [level for level in dial.levels if harsher * level < harsher * value]
    levels = [*milder, value]
    return levels[min(len(levels) - 1, int(share * len(levels)))]
