"""What the model does differently under one setting than under another: the questions, asked of a Session.

A ``Pair`` names two recipes of one Session, dense and present by default. What needs only answers is computed at
once from those the Session knows; what needs confidences, activations or other images runs them, asks ``check``
often (which may raise), and waits while the person's own setting is being measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workbench.recipe import Recipe

from .attribution import Attribution, attribute
from .calibration import Calibration, Logits, measure_calibration
from .classes import ClassReport
from .compare import answers_of, judge_classes
from .confusion import confusion_matrix
from .corruptions import IMAGES as CORRUPTED
from .corruptions import Robustness, measure_robustness
from .drift import IMAGES as DRIFTED
from .drift import Drift, measure_drift
from .teacher import TeacherReport, compare_with_teacher

if TYPE_CHECKING:
    from workbench.session import Session

BATCH = 64

Check = Callable[[], None]
Follow = Callable[[float], None]


def _go_on() -> None:
    """Never stop."""


@dataclass(frozen=True, eq=False)
class Pair:
    """Two settings of one Session."""

    session: Session
    before: Recipe
    after: Recipe

    def classes(self) -> ClassReport:
        """Return what became of each class; both must have been measured, or ``WorkbenchError`` says so."""
        return judge_classes(self.session, self.after, self.before)

    def confusion(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return both confusion matrices, true class × answer."""
        labels, count = self.session.split.labels.numpy(), len(self.session.data.classes)
        before, after = (answers_of(self.session, recipe) for recipe in (self.before, self.after))
        return confusion_matrix(labels, before, count), confusion_matrix(labels, after, count)

    def calibration(self, check: Check = _go_on, follow: Follow = lambda _: None) -> tuple[Calibration, Calibration]:
        """Return how well both are calibrated; runs the split where the logits are no longer known.

        ``follow`` is told the share done.
        """
        labels = self.session.split.labels.numpy()
        missing = [one for one in (self.before, self.after) if self.session.logits(one) is None]
        found = []
        for recipe in (self.before, self.after):
            place = missing.index(recipe) if recipe in missing else 0

            def part(share: float, place: int = place) -> None:
                follow((place + share) / max(1, len(missing)))

            found.append(measure_calibration(logits_of(self.session, recipe, check, part), labels))
        return found[0], found[1]

    def teacher(self, check: Check = _go_on, follow: Follow = lambda _: None) -> TeacherReport:
        """Return how much of its teacher each setting has; runs the teacher over the split."""
        return compare_with_teacher(self.session, self.before, self.after, check, follow)

    def drift(self, check: Check = _go_on) -> Drift:
        """Return how far each layer's outputs drift on a sample of the split."""
        images = self.session.normalization(self.session.split.images[self._sample(DRIFTED)])
        before, after = self.session.compress(self.before), self.session.compress(self.after)
        return measure_drift(before, after, images, check)

    def attribute(self, image: Tensor, target: int, method: str) -> Attribution:
        """Return both models' attributions of class ``target`` for one image ``(C, H, W)`` as the split holds it."""
        image, black = self.session.normalization(torch.stack([image, torch.zeros_like(image)]))
        before, after = (self.session.compress(recipe).fresh_module() for recipe in (self.before, self.after))
        return attribute(before, after, image, target, method, black)

    def robustness(self, check: Check = _go_on) -> Iterator[Robustness]:
        """Yield both models' accuracy under each corruption, on a sample of the split, as it comes."""
        chosen = self._sample(CORRUPTED)
        labels = self.session.split.labels[chosen].numpy()
        before, after = (self.session.runner(recipe) for recipe in (self.before, self.after))
        images = self.session.split.images[chosen]
        yield from measure_robustness(before, after, images, labels, self.session.normalization, check)

    def _sample(self, count: int) -> Tensor:
        """Return the places of ``count`` images of the split, drawn by chance, the same every time."""
        return self.session.split.drawn(count).sort().values


def logits_of(
    session: Session, recipe: Recipe, check: Check = _go_on, follow: Follow = lambda _: None
) -> NDArray[np.float32]:
    """Return a setting's logits ``(N, classes)`` on the whole split, run anew where they are no longer known."""
    known = session.logits(recipe)
    if known is not None:
        return known
    runner, found = session.runner(recipe), []
    batches: tuple[Any, ...] = session.split.images.split(BATCH)
    for place, batch in enumerate(batches):
        check()
        found.append(runner.logits(session.normalization(batch).contiguous()))
        follow((place + 1) / len(batches))
    logits: Logits = np.concatenate(found)
    session.keep_logits(recipe, logits)
    return logits
