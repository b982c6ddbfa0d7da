"""Distillation; see ``workbench.techniques.trained.distill``."""

from __future__ import annotations

from torch import nn

from workbench.techniques.trained import DistillSettings

from ..loop.objectives import Objective
from ..method import Method
from ..teaching.losses import objective_of


class Distill(Method[DistillSettings]):
    """Fine-tuning by a teacher's answers beside the labels."""

    def objective(self, teacher: nn.Module) -> Objective:
        """Return the loss against ``teacher``."""
        settings = self.settings
        return objective_of(
            settings.loss, teacher, settings.temperature, settings.weight, settings.answers, settings.precision
        )
