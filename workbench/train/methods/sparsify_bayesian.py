"""Bayesian compression; see ``workbench.techniques.trained.sparsify_bayesian``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from workbench.techniques.trained import SparsifyBayesianSettings

from ..constraints.base import Constraint, Part
from ..constraints.posteriors import GroupNoisy, Noisy, Posterior
from ..method import Learning, Moment, require
from .taught import Taught

if TYPE_CHECKING:
    from workbench.recipe import Recipe
    from workbench.subject import Subject
    from workbench.techniques.draft import Draft

    from ..student import Student


class SparsifyBayesian(Taught[SparsifyBayesianSettings]):
    """Adds the divergence to the loss."""

    def constrain(self, tensor: Learning) -> Part | None:
        """Return the tensor with a posterior, where it is a chosen weight that is stored as it is."""
        inner = super().constrain(tensor)
        settings = tensor.settings
        if settings is None or tensor.storage is not None or not isinstance(inner, Constraint):
            return inner
        if settings.prior == "log_uniform" or tensor.values.ndim < 2:
            return Noisy(inner, settings.noise, settings.bits)
        by_input = settings.groups == "input" or (settings.groups == "auto" and tensor.values.ndim == 2)
        axis = 1 - tensor.axis if by_input else tensor.axis
        return GroupNoisy(inner, axis, settings.noise, settings.bits)

    def prepare(self, student: Student, draft: Draft, subject: Subject, recipe: Recipe) -> None:
        """Raise ``WorkbenchError`` where no weight has a distribution."""
        found = any(isinstance(part, Posterior) for _, part in student.parts())
        require(found, "sparsify_bayesian", "that can have a distribution", "take out the step that stores them")

    def penalty(self, student: Student, moment: Moment) -> Tensor | None:
        """Return the divergence, a training image's share of it."""
        parts = [part.divergence() for _, part in student.parts() if isinstance(part, Posterior)]
        if not parts:
            return None
        risen = min(1.0, moment.share / self.settings.rise) if self.settings.rise else 1.0
        return self.settings.strength * risen * torch.stack(parts).sum() / (moment.each * self.settings.batch)

    def paces(self) -> dict[str, float]:
        """Return how much faster variances learn."""
        return {"log_variance": self.settings.pace, "scale_log_variance": self.settings.pace}

    def finished(self, moment: Moment) -> bool:
        """Whether the divergence has its whole weight; at the latest at the end."""
        return moment.share > self.settings.rise or moment.step >= moment.total
