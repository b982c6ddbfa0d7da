"""N:M sparsity with SR-STE; see ``workbench.techniques.trained.train_n_of_m``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from workbench.techniques.trained import TrainNOfMSettings

from ..constraints.base import Constraint, Part
from ..method import Learning, Moment, require
from .taught import Taught

if TYPE_CHECKING:
    from workbench.recipe import Recipe
    from workbench.subject import Subject
    from workbench.techniques.draft import Draft

    from ..student import Student


class NOfM(Part):
    """A tensor of whose every ``m`` values along the inputs, which ``axis`` counts, the ``n`` largest are used."""

    def __init__(self, inner: Constraint, n: int, m: int, axis: int = 1) -> None:
        super().__init__()
        self.inner, self.n, self.m, self.axis = inner, n, m, axis

    def forward(self) -> Tensor:
        """Return the used values; the gradient goes to all."""
        values: Tensor = self.inner()
        return values + (values * self.used() - values).detach()

    @torch.no_grad()
    def used(self) -> Tensor:
        """Return which values are used."""
        values = self.inner.values
        # inputs last, so that m of them are neighbours
        groups = values.movedim(self.axis, -1).reshape(-1, self.m)
        kept = torch.zeros_like(groups, dtype=torch.bool)
        kept.scatter_(1, groups.abs().argsort(dim=1, descending=True, stable=True)[:, : self.n], True)
        shape = values.movedim(self.axis, -1).shape
        return kept.view(shape).movedim(-1, self.axis)

    def learned(self) -> dict[str, Tensor]:
        """Return the used values, and which they are."""
        used = self.used()
        return {"": self.inner.whole().detach() * used, "kept": used}


class TrainNOfM(Taught[TrainNOfMSettings]):
    """Pulls unused weights towards zero."""

    def constrain(self, tensor: Learning) -> Part | None:
        """Return the tensor with a choice, where it is a chosen weight stored as it is whose inputs m divides."""
        inner = super().constrain(tensor)
        own, axis = tensor.settings, 0 if tensor.axis else 1
        plain = type(inner) is Constraint and own is not None and tensor.values.ndim >= 2
        if not plain or tensor.values.shape[axis] % own.m:
            return inner
        assert isinstance(inner, Constraint)
        return NOfM(inner, own.n, own.m, axis)

    def prepare(self, student: Student, draft: Draft, subject: Subject, recipe: Recipe) -> None:
        """Raise ``WorkbenchError`` where no weight takes the pattern."""
        found = any(isinstance(part, NOfM) for _, part in student.parts())
        why = "it takes those that no step before prunes or stores in few values, and whose inputs m divides"
        require(found, "train_n_of_m", "for its pattern", why)

    @torch.no_grad()
    def after_backward(self, student: Student, optimizer: Any, moment: Moment) -> None:
        """Add the pull to the gradient."""
        for _, part in student.parts():
            if isinstance(part, NOfM) and part.inner.values.grad is not None:
                part.inner.values.grad.add_(part.inner.values * ~part.used(), alpha=self.settings.pull)
