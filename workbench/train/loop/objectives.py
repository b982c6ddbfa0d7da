"""What a training step makes smaller: the objective of each trained technique."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..teaching.cached_answers import answers_to

if TYPE_CHECKING:
    from ..images.passes import TrainingImages
    from ..student import Student


class Objective(nn.Module, ABC):
    """A loss over a batch; it may watch the student's insides, run a teacher, and have parameters that learn."""

    def watch(self, student: Student) -> None:
        """Get ready to see ``student``'s insides, once, before it is trained."""

    def ready(self, images: TrainingImages, folder: Path, check: Callable[[], None]) -> None:
        """Compute what is the same in every step, once; ``folder`` is for what is kept, ``check`` raises to end it."""

    def at(self, places: Tensor) -> None:
        """Hear which training images come next, by their places ``(N,)``."""

    @abstractmethod
    def loss(self, student: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Return the loss, a scalar; ``images`` are normalised."""


class Labels(Objective):
    """Cross-entropy with the labels."""

    def loss(self, student: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy."""
        return F.cross_entropy(student(images), labels)


class Answers(Objective):
    """A teacher's answers beside the labels; see ``workbench.techniques.trained.distill``.

    ``loss`` is ``kl``, at ``temperature``, or ``mse``; ``weight`` is its share. ``kept`` is the arithmetic in which the
    answers are computed once, None where they are in each step.
    """

    def __init__(self, teacher: nn.Module, loss: str, temperature: float, weight: float, kept: str | None) -> None:
        super().__init__()
        self._run = [teacher.eval().requires_grad_(False)]  # in a list: not a part of this module
        self._loss, self._temperature, self._weight, self._kept = loss, temperature, weight, kept
        self._answers: Tensor | None = None
        self._places = torch.empty(0, dtype=torch.long)

    def ready(self, images: TrainingImages, folder: Path, check: Callable[[], None]) -> None:
        """Run the teacher once over all images, where its answers are to be kept."""
        if self._kept is not None:
            self._answers = answers_to(self._run[0], images, folder, check, self._kept)

    def at(self, places: Tensor) -> None:
        """Hear which images come next."""
        self._places = places

    def _taught(self, images: Tensor) -> Tensor:
        if self._answers is not None:
            return self._answers[self._places]
        with torch.no_grad():
            taught: Tensor = self._run[0](images)
        return taught

    def loss(self, student: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Return the weighted sum of both losses."""
        answers = student(images)
        taught = self._taught(images)
        if self._loss == "mse":
            far = F.mse_loss(answers, taught)
        else:
            softness = self._temperature
            far = softness**2 * F.kl_div(
                F.log_softmax(answers / softness, -1), F.log_softmax(taught / softness, -1),
                reduction="batchmean", log_target=True,
            )  # fmt: skip
        return self._weight * far + (1 - self._weight) * F.cross_entropy(answers, labels)
