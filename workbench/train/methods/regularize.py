"""Regularizers; see ``workbench.techniques.trained.regularize``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from workbench.techniques.trained import RegularizeSettings

from ..constraints.base import Part
from ..method import Learning, Moment
from .taught import Taught

if TYPE_CHECKING:
    from ..student import Student


class Measured(Part):
    """A tensor, whose outputs ``axis`` counts, with what its regularizer was at first."""

    def __init__(self, inner: Part, kind: str, axis: int = 0) -> None:
        super().__init__()
        self.inner, self.kind, self.axis = inner, kind, axis
        with torch.no_grad():
            self.register_buffer("first", self.size())
        self.first: Tensor

    def forward(self) -> Tensor:
        """Return the values."""
        values: Tensor = self.inner()
        return values

    def size(self) -> Tensor:
        """Return the regularizer of the present values."""
        return SIZES[self.kind](self.inner().movedim(self.axis, 0).flatten(1))

    def learned(self) -> dict[str, Tensor]:
        """Return what the tensor learned."""
        return self.inner.learned()


class Regularize(Taught[RegularizeSettings]):
    """Adds the regularizer to the loss."""

    def constrain(self, tensor: Learning) -> Part | None:
        """Return the tensor, measured where it is the weight of a chosen layer."""
        inner = super().constrain(tensor)
        if inner is None or tensor.settings is None or tensor.values.ndim < 2:
            return inner
        return Measured(inner, self.settings.kind, tensor.axis)

    def penalty(self, student: Student, moment: Moment) -> Tensor | None:
        """Return the strength times the regularizer, as a share of what it was at first."""
        parts = [part for _, part in student.parts() if isinstance(part, Measured)]
        if not parts:
            return None
        first = torch.stack([part.first for part in parts]).sum().clamp_min(1e-12)
        return self.settings.strength * torch.stack([part.size() for part in parts]).sum() / first

    def finished(self, moment: Moment) -> bool:
        """Whether it is over: the most accurate state would be that of the least pull."""
        return moment.step >= moment.total


def _l1(rows: Tensor) -> Tensor:
    return rows.abs().sum()


def _group(rows: Tensor) -> Tensor:
    found: Tensor = torch.linalg.vector_norm(rows, dim=1).sum() * rows.shape[1] ** 0.5
    return found


def _nuclear(rows: Tensor) -> Tensor:
    found: Tensor = torch.linalg.svdvals(rows).sum()
    return found


#: Of a weight with a row for each output.
SIZES: dict[str, Callable[[Tensor], Tensor]] = {"l1": _l1, "group": _group, "nuclear": _nuclear}
