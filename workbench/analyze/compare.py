"""Settings side by side: how two recipes differ, and what became of figures, classes and answers.

``diff_recipes`` needs nothing but the recipes. ``compare_settings`` measures settings of one Session (what the
history holds is not run again) and compares each with the first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from workbench.errors import WorkbenchError
from workbench.measure.flips import FlipCounts, count_flips
from workbench.recipe import Recipe, Step

from .classes import ClassReport, compare_classes

if TYPE_CHECKING:
    from workbench.session import Session
    from workbench.snapshot import Snapshot

Kind = Literal["added", "removed", "moved", "changed"]


@dataclass(frozen=True)
class Difference:
    """One difference between two recipes.

    ``before`` and ``after`` number the step in each, from 1, or are None where it is not there. Of a
    ``changed`` step ``setting`` names what changed (``layers`` and ``overrides of PATTERN: SETTING`` too) from
    ``old`` to ``new``; of the other kinds it is empty.
    """

    kind: Kind
    technique: str
    before: int | None
    after: int | None
    setting: str = ""
    old: Any = None
    new: Any = None

    def __str__(self) -> str:
        """In words: ``quantize: bits 8 → 4``."""
        if self.kind == "changed":
            return f"{self.technique}: {self.setting} {_shown(self.old)} → {_shown(self.new)}"
        if self.kind == "moved":
            return f"{self.technique}: step {self.before} → step {self.after}"
        given = self.new if self.kind == "added" else self.old
        settings = ", ".join(f"{name} {_shown(value)}" for name, value in (given or {}).items())
        return f"{self.technique} {self.kind}" + (f": {settings}" if settings else "")

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {**vars(self), "text": str(self)}


def diff_recipes(before: Recipe, after: Recipe) -> tuple[Difference, ...]:
    """Return how ``after`` differs from ``before``, in the order of the steps; defaults count as settings.

    >>> one, other = (Recipe.parse(f"- prune: {{ratio: 0.5}}\\n- quantize: {{bits: {bits}}}") for bits in (8, 4))
    >>> [str(difference) for difference in diff_recipes(one, other)]
    ['quantize: bits 8 → 4']
    """
    ours, theirs = before.steps, after.steps
    names = [step.technique for step in ours], [step.technique for step in theirs]
    found: list[Difference] = []
    gone: list[int] = []
    come: list[int] = []
    for kind, first, last, start, end in SequenceMatcher(None, *names, autojunk=False).get_opcodes():
        if kind == "equal":
            for place, other in zip(range(first, last), range(start, end), strict=True):
                found += _changes(ours[place], theirs[other], place + 1, other + 1)
        else:
            gone += range(first, last)
            come += range(start, end)
    for place in gone:
        same = next((other for other in come if theirs[other].resolved() == ours[place].resolved()), None)
        if same is not None:
            come.remove(same)
            found.append(Difference("moved", ours[place].technique, place + 1, same + 1))
        else:
            found.append(Difference("removed", ours[place].technique, place + 1, None, old=_given(ours[place])))
    found += [
        Difference("added", theirs[other].technique, None, other + 1, new=_given(theirs[other])) for other in come
    ]
    return tuple(sorted(found, key=lambda one: (one.after or one.before or 0, one.before or 0)))


@dataclass(frozen=True, eq=False)
class Setting:
    """One measured setting: its Snapshot, and each image's answer ``(N,)`` in the split's order."""

    snapshot: Snapshot
    answers: NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class Contrast:
    """A setting against the first one of a comparison; ``classes`` is None where the images have no labels."""

    recipe: tuple[Difference, ...]
    flips: FlipCounts
    lost: NDArray[np.int64]
    won: NDArray[np.int64]
    classes: ClassReport | None


@dataclass(frozen=True, eq=False)
class Comparison:
    """Settings of one model on one split, and each but the first against the first."""

    settings: tuple[Setting, ...]
    contrasts: tuple[Contrast, ...]


def compare_settings(
    session: Session, recipes: Sequence[Recipe], follow: Callable[[int], None] = lambda _: None
) -> Comparison:
    """Measure ``recipes`` in ``session`` and compare each with the first; the session keeps the last.

    ``follow`` is called with the number of settings measured so far. Raises ``WorkbenchError`` for fewer than
    two recipes, and for one that cannot be carried out.
    """
    if len(recipes) < 2:
        raise WorkbenchError("A comparison takes two settings or more; an empty recipe is the dense model.")
    settings = []
    for recipe in recipes:
        settings.append(Setting(session.measure(recipe), answers_of(session, recipe)))
        follow(len(settings))
    first, *others = settings
    return Comparison(tuple(settings), tuple(contrast(session, first, other) for other in others))


def contrast(session: Session, first: Setting, other: Setting) -> Contrast:
    """Return what changed from ``first`` to ``other``."""
    labels = session.split.labels.numpy()
    before, after = first.answers == labels, other.answers == labels
    return Contrast(
        diff_recipes(first.snapshot.recipe, other.snapshot.recipe),
        count_flips(first.answers, other.answers, labels),
        np.flatnonzero(before & ~after),
        np.flatnonzero(after & ~before),
        compare_classes(first.answers, other.answers, labels, session.data.classes) if session.split.labelled else None,
    )


def judge_classes(session: Session, recipe: Recipe, against: Recipe | None = None) -> ClassReport:
    """Return what became of each class from ``against`` (the dense model) to ``recipe``, both measured before.

    Raises ``WorkbenchError`` where one of them was not measured, or labels are missing.
    """
    before, after = (answers_of(session, one) for one in (against or Recipe(), recipe))
    return compare_classes(before, after, session.split.labels.numpy(), session.data.classes)


def answers_of(session: Session, recipe: Recipe) -> NDArray[np.integer[Any]]:
    """Return each image's answer under a setting that was measured; raises ``WorkbenchError`` where it wasn't."""
    answers = session.answers(recipe)
    if answers is None:
        raise WorkbenchError("This setting has not been measured on every image yet; measure it first.")
    return answers


def _changes(ours: Step, theirs: Step, place: int, other: int) -> list[Difference]:
    """Return the settings in which two steps of one technique differ."""
    old, new = _flat(ours), _flat(theirs)
    return [
        Difference("changed", ours.technique, place, other, name, old.get(name), new.get(name))
        for name in dict.fromkeys((*old, *new))
        if old.get(name) != new.get(name)
    ]


def _flat(step: Step) -> dict[str, Any]:
    """Return a step's settings with every default, its layers and overrides, by the name a difference gives them."""
    found = dict(step.settings.model_dump(mode="json"))
    found["layers"] = list(step.layers)
    for override in step.overrides:
        found.update({f"override of {override.pattern}: {name}": value for name, value in override.to_data().items()})
    return found


def _given(step: Step) -> dict[str, Any]:
    (settings,) = step.to_data().values()
    return dict(settings)


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(part)}" for name, part in value.items())
    return str(value)
