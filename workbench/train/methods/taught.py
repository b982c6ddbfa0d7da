"""Methods that a teacher may help; see ``workbench.techniques.trained.taught``."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from workbench.techniques.trained import TaughtSettings

from ..loop.objectives import Objective
from ..method import Method
from ..teaching.losses import objective_of

S = TypeVar("S", bound=TaughtSettings)


class Taught(Method[S]):
    """Fine-tuning by the labels, and by a teacher where the settings say so."""

    def objective(self, teacher: nn.Module) -> Objective:
        """Return the loss."""
        settings = self.settings
        return objective_of(
            settings.teacher, teacher, settings.temperature, settings.weight, settings.answers, settings.precision
        )
