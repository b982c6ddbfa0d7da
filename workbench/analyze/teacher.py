"""Teacher and student on the same images: how often they answer alike, and who is right where they do not.

A student can match its teacher's accuracy with other mistakes (Stanton et al. 2021, "Does Knowledge Distillation
Really Work?"), so agreement is told beside accuracy, with Wilson's intervals, and the mean divergence of its
probabilities from the teacher's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from workbench.recipe import Recipe

from .classes import Share, wilson

if TYPE_CHECKING:
    from workbench.session import Session

BATCH = 64
#: Teachers that are no model beside this one.
OWN = ("uncompressed", "itself")

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Against:
    """Both settings against the teacher on one class, or on all images.

    ``teacher``, ``before`` and ``after`` are accuracies, ``agree_before`` and ``agree_after`` shares of the teacher's
    answers given too. ``only_teacher`` and ``only_student`` count images that one alone has right, after. Where the
    images have no labels, all that tells who is right is None, and a class is what the teacher takes an image for.
    """

    name: str
    teacher: Share | None
    before: Share | None
    after: Share | None
    agree_before: Share
    agree_after: Share
    only_teacher: int | None
    only_student: int | None


@dataclass(frozen=True)
class TeacherReport:
    """What the comparison came to; ``divergence`` is the mean Kullback-Leibler divergence in nats, before and after."""

    name: str
    overall: Against
    rows: tuple[Against, ...]
    divergence: tuple[float, float]

    def sentence(self) -> str:
        """Return it in a sentence."""
        found = self.overall
        alike = (
            f"The student gives {self.name}'s answer on {found.agree_after.value:.1%} of the images "
            f"({found.agree_before.value:.1%} before)"
        )
        if found.only_teacher is None:
            return f"{alike}; who is right where they differ is not known without labels."
        return (
            f"{alike}; where they differ, the teacher alone is right on {found.only_teacher:,} and the student alone "
            f"on {found.only_student:,}."
        )


def teacher_name(session: Session, recipe: Recipe) -> str | None:
    """Return who taught ``recipe``'s student: another model's name, or None for the model as it was loaded."""
    made = session.model.card.get("recipe")
    steps = [*(Recipe.parse(made).steps if isinstance(made, list) else ()), *recipe.steps]
    for step in reversed(steps):
        name = str(getattr(step.settings, "by", OWN[0]))
        if name not in OWN:
            return name
    return None


def compare_with_teacher(
    session: Session, before: Recipe, after: Recipe, check: Callable[[], None], follow: Callable[[float], None]
) -> TeacherReport:
    """Return how much of its teacher each of two settings has, on the session's split.

    ``check`` may raise to end it; ``follow`` is told the share done. Raises ``WorkbenchError`` where the teacher is
    gone, or does not tell these classes apart.
    """
    from .behaviour import logits_of

    name = teacher_name(session, after)
    taught = logits_of(session, Recipe(), check, follow) if name is None else _run(session, name, check, follow)
    sides = [logits_of(session, recipe, check) for recipe in (before, after)]
    answers = [side.argmax(1) for side in (taught, *sides)]
    labels = session.split.labels.numpy() if session.split.labelled else None
    kinds, everything = answers[0] if labels is None else labels, np.ones(len(taught), bool)
    rows = [_against(str(of), kinds == place, labels, answers) for place, of in enumerate(session.data.classes)]
    shown = "the dense model" if name is None else name.rpartition("/")[2]
    overall = _against("all", everything, labels, answers)
    divergence = _divergence(taught, sides[0]), _divergence(taught, sides[1])
    return TeacherReport(shown, overall, tuple(rows), divergence)


def _run(session: Session, name: str, check: Callable[[], None], follow: Callable[[float], None]) -> Logits:
    from workbench.train.teaching.teachers import load_teacher

    seen = session.model.normalization or session.data.normalization
    teacher = load_teacher(name, session.data, seen)
    batches: tuple[Any, ...] = session.split.images.split(BATCH)
    found = []
    for place, batch in enumerate(batches):
        check()
        with torch.inference_mode():
            found.append(teacher(session.normalization(batch)).numpy())
        follow((place + 1) / len(batches))
    logits: Logits = np.concatenate(found)
    return logits


def _against(name: str, chosen: NDArray[Any], labels: NDArray[Any] | None, answers: list[NDArray[Any]]) -> Against:
    n = int(chosen.sum())
    teacher, before, after = (one[chosen] for one in answers)

    def share(hits: NDArray[Any]) -> Share:
        return wilson(float(hits.sum()), n)

    alike = share(before == teacher), share(after == teacher)
    if labels is None:
        return Against(name, None, None, None, *alike, None, None)
    truth = labels[chosen]
    return Against(
        name, share(teacher == truth), share(before == truth), share(after == truth), *alike,
        int(((teacher == truth) & (after != truth)).sum()), int(((teacher != truth) & (after == truth)).sum()),
    )  # fmt: skip


def _divergence(teacher: Logits, student: Logits) -> float:
    """Return the mean Kullback-Leibler divergence of the student's probabilities from the teacher's, in nats."""
    theirs, ours = (torch.tensor(side, dtype=torch.float64).log_softmax(1) for side in (teacher, student))
    return float((theirs.exp() * (theirs - ours)).sum(1).mean())
