"""Hard-concrete gates; see ``workbench.techniques.trained.learn_gates``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from workbench.techniques.trained import LearnGatesSettings

from ..constraints.base import Constraint, Part
from ..method import Learning, Moment, require
from .taught import Taught

if TYPE_CHECKING:
    from workbench.recipe import Recipe
    from workbench.subject import Subject
    from workbench.techniques.draft import Draft

    from ..student import Student

#: Temperature and ends of the stretched distribution (Louizos et al. 2018, section 4).
BETA, LOW, HIGH = 2 / 3, -0.1, 1.1


class HardConcrete(Part):
    """A tensor times its gates, which are drawn in training and at their middle otherwise.

    One for each value, or for each output, which ``axis`` counts.
    """

    def __init__(self, inner: Constraint, by_output: bool, chance: float, axis: int = 0) -> None:
        super().__init__()
        self.inner = inner
        shape = inner.values.shape
        if by_output:
            shape = torch.Size(length if place == axis else 1 for place, length in enumerate(shape))
        # the chance to be above zero is sigmoid(log_alpha - BETA log(-LOW / HIGH))
        start = math.log(chance / (1 - chance)) + BETA * math.log(-LOW / HIGH)
        self.log_alpha = nn.Parameter(torch.full(shape, start))

    def forward(self) -> Tensor:
        """Return the gated values."""
        if not self.training:
            return self.inner() * self._middle()
        noise = torch.rand_like(self.log_alpha).clamp(1e-6, 1 - 1e-6)
        concrete = torch.sigmoid((noise.log() - (-noise).log1p() + self.log_alpha) / BETA)
        return self.inner() * (concrete * (HIGH - LOW) + LOW).clamp(0, 1)

    def open(self) -> Tensor:
        """Return the expected number of weights whose gate is not zero."""
        chance = torch.sigmoid(self.log_alpha - BETA * math.log(-LOW / HIGH))
        return chance.sum() * (self.inner.values.numel() / self.log_alpha.numel())

    def learned(self) -> dict[str, Tensor]:
        """Return the gated values, and where they are not zero."""
        with torch.no_grad():
            values = self.inner() * self._middle()
        return {"": values, "kept": values != 0}

    def _middle(self) -> Tensor:
        return (torch.sigmoid(self.log_alpha) * (HIGH - LOW) + LOW).clamp(0, 1)


class LearnGates(Taught[LearnGatesSettings]):
    """Adds the expected share of open gates to the loss."""

    def constrain(self, tensor: Learning) -> Part | None:
        """Return the tensor with gates, where it is a chosen weight that is stored as it is."""
        inner = super().constrain(tensor)
        if tensor.settings is None or tensor.storage is not None or not isinstance(inner, Constraint):
            return inner
        return HardConcrete(inner, tensor.settings.unit == "output", tensor.settings.open, tensor.axis)

    def prepare(self, student: Student, draft: Draft, subject: Subject, recipe: Recipe) -> None:
        """Raise ``WorkbenchError`` where no weight has gates."""
        found = any(isinstance(part, HardConcrete) for _, part in student.parts())
        require(found, "learn_gates", "that can have gates", "take out the step that stores them")

    def penalty(self, student: Student, moment: Moment) -> Tensor | None:
        """Return the strength times the expected share of open gates."""
        gates = [part for _, part in student.parts() if isinstance(part, HardConcrete)]
        if not gates:
            return None
        count = sum(gate.inner.values.numel() for gate in gates)
        return self.settings.strength * torch.stack([gate.open() for gate in gates]).sum() / count

    def paces(self) -> dict[str, float]:
        """Return how much faster gates learn."""
        return {"log_alpha": self.settings.pace}

    def finished(self, moment: Moment) -> bool:
        """Whether gates have had half of the training to close: the best state is one of those."""
        return moment.share >= 0.5
