"""How much each option harms, measured: the divergence from the dense model with one unit alone compressed.

The sweep is that of ``analyze.sweep``: all cells at once, look by look, on the same images. The mean KL divergence of
the probabilities is what is added over the units: it needs few images, is zero where nothing changes, and ranks whole
recipes better than the accuracy lost does. What was measured is kept in the history, so that a second budget starts
from it, and a process that was killed goes on.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.analyze.finding import Question, Sensitivity
from workbench.analyze.keeping import pack_sensitivity, unpack_sensitivity
from workbench.analyze.sweep import SensitivityJob
from workbench.errors import WorkbenchError
from workbench.history import History, Key
from workbench.recipe import Recipe

from .options import Option, Plan
from .problem import Floats

if TYPE_CHECKING:
    from workbench.run.executor import Executor

    from .testbed import Testbed

#: What the history calls these sweeps.
KIND = "options"
#: Seconds between two times that a running sweep is stored: so much is measured again after a crash.
PACE = 15.0


@dataclass(frozen=True)
class OptionQuestion(Question):
    """A sweep whose rows are the units of ``plan`` and whose levels are its options."""

    plan: Plan | None = None

    def recipe(self, layer: str, level: Any) -> Recipe:
        """Return the recipe of one cell; a unit that lacks the option is left as it is."""
        assert self.plan is not None
        unit = self.plan.units[self.layers.index(layer)]
        return self.plan.alone(unit, level) if level in unit.options else Recipe()

    @classmethod
    def of(cls, plan: Plan) -> OptionQuestion:
        """Return the question that a plan asks."""
        levels = tuple(dict.fromkeys(option for unit in plan.units for option in unit.options))
        methods = {method.name: {**method.settings} for method in plan.methods}
        names, groups = tuple(unit.name for unit in plan.units), tuple(unit.layers for unit in plan.units)
        technique = "+".join(method.name for method in plan.methods)
        return cls(technique, "option", levels, names, methods, "only", groups, plan)

    @property
    def text(self) -> str:
        """The question as the history keeps it; the same whichever options are asked for and layers are locked.

        Unless a locked layer has settings of its own, by which its one option is another than that of a free layer.
        """
        held = [[*place, dict(own)] for place, own in self.plan.held.items()] if self.plan else []
        asked = [self.technique, self.settings, self.groups]
        return json.dumps([*asked, *([sorted(held, key=str)] if held else [])], sort_keys=True)


def sweep_options(
    bed: Testbed,
    plan: Plan,
    images: int,
    *,
    history: History,
    cancelled: Callable[[], bool],
    told: Callable[[float], None] = lambda _: None,
    executor: str | Executor | None = None,
) -> Sensitivity:
    """Measure every option of ``plan`` on about ``images`` images, from what the history knows, and return it.

    What is measured goes into the history on the way. ``told`` is called with the share that is done. Raises
    ``WorkbenchError`` where it fails or is ``cancelled``.
    """
    question = OptionQuestion.of(plan)
    free = next(unit for unit in plan.units if not unit.locked)
    key = bed.key_of(plan.alone(free, free.options[-1]))
    sweep = SensitivityJob(bed, question, start=recall(history, key, plan), executor=executor, most=images)
    sweep.subscribe(lambda progress: told(progress.share))
    saved = time.monotonic()
    while not sweep.wait(0.1):
        if cancelled():
            sweep.cancel()
        elif time.monotonic() - saved > PACE and sweep.latest is not None:
            keep(history, key, sweep.latest)
            saved = time.monotonic()
    if sweep.latest is not None:
        keep(history, key, sweep.latest)
    return sweep.result()


def recall(history: History, key: Key, plan: Plan) -> Sensitivity | None:
    """Return what the history knows of the plan's options, None where that is nothing."""
    question = OptionQuestion.of(plan)
    with contextlib.suppress(WorkbenchError):  # damaged, or of a newer version: then it is measured anew
        kept = history.finding(key, KIND, question.text)
        if kept is not None:
            found = unpack_sensitivity(kept.payload)
            levels = tuple(tuple(level) for level in found.levels)
            asked = Question(
                found.question.technique, "option", levels, found.layers, question.settings, "only", question.groups
            )
            return replace(found, question=asked)
    return None


def keep(history: History, key: Key, found: Sensitivity) -> None:
    """Store what a sweep has found so far; where the history can't be written the search goes on without."""
    question = found.question
    assert isinstance(question, OptionQuestion)
    with contextlib.suppress(WorkbenchError):
        plain = Question(
            question.technique, question.setting, question.levels, question.layers, question.settings, "only",
            question.groups,
        )  # fmt: skip
        history.keep_finding(key, KIND, question.text, pack_sensitivity(replace(found, question=plain)), found.exact)


def damages(found: Sensitivity, plan: Plan) -> tuple[Floats, ...]:
    """Return each option's divergence, nats, for each unit; milder options of one dial are not worse than harsher ones.

    What was measured on few images is noisy, and noise must not choose: where an option is milder than another in
    every dial, its damage is brought down to the other's (running minimum from harsh to mild).
    """
    kl = found.measured["kl"].value
    rows = []
    for row, unit in enumerate(plan.units):
        values = np.array([_cell(kl[row], found.levels, option, plan.neutral) for option in unit.options])
        rows.append(_monotone(values, unit.options, _harsher(plan)))
    return tuple(rows)


def _cell(values: Floats, levels: tuple[Any, ...], option: Option, neutral: Option) -> float:
    if option == neutral:
        return 0.0
    value = float(values[levels.index(option)])
    return value if np.isfinite(value) else np.inf


def _harsher(plan: Plan) -> Callable[[Option, Option], bool]:
    """Return whether one option compresses at least as much as another in every dial."""
    order = [{level: place for place, level in enumerate(method.levels)} for method in plan.methods]

    def compare(one: Option, other: Option) -> bool:
        return all(
            places.get(mine, -1) >= places.get(theirs, -1)
            for places, mine, theirs in zip(order, one, other, strict=True)
        )

    return compare


def _monotone(values: Floats, options: tuple[Option, ...], harsher: Callable[[Option, Option], bool]) -> Floats:
    return np.array(
        [
            min(value for value, other in zip(values, options, strict=True) if harsher(other, option))
            for option in options
        ]
    )
