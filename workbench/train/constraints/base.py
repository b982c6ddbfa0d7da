"""Tensors that learn while they stay compressed.

A Constraint holds what learns of one tensor and gives, in every forward pass, the values the model runs with:
exactly those that will be stored. Rounding is passed straight through (Bengio, Léonard and Courville 2013,
"Estimating or Propagating Gradients Through Stochastic Neurons"): forwards it rounds, backwards it is not
there. What learned is handed over by ``learned``, and put in place by ``Storage.retrained``.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from workbench.techniques.codebook import SharedWeights
from workbench.techniques.storage import Codes, Storage

from .gradients import rounded_to, slower, spread, straight, whole_zero


class Part(nn.Module):
    """One tensor that learns; subclasses say under which constraint."""

    def forward(self) -> Tensor:
        """Return the values the model runs with."""
        raise NotImplementedError

    def learned(self) -> dict[str, Tensor]:
        """Return what was learned, by the parts that ``Storage.retrained`` takes; ``kept`` is a new mask."""
        raise NotImplementedError

    if TYPE_CHECKING:

        def __call__(self) -> Tensor: ...


class Constraint(Part):
    """One tensor that learns, unconstrained: every value is free."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.values = nn.Parameter(values.clone())
        #: What the values are multiplied by before they are constrained (``workbench.train.constraints.folding``).
        self.factor: Callable[[Tensor], Tensor] | None = None

    def whole(self) -> Tensor:
        """Return the values before any constraint."""
        return self.values if self.factor is None else self.factor(self.values)

    def forward(self) -> Tensor:
        """Return the values the model runs with."""
        return self.whole()

    def learned(self) -> dict[str, Tensor]:
        """Return what was learned, by the parts that ``Storage.retrained`` takes."""
        return {"": self.whole().detach().clone()}


class Masked(Constraint):
    """Pruned weights stay zero."""

    def __init__(self, values: Tensor, kept: Tensor) -> None:
        super().__init__(values)
        self.register_buffer("kept", kept)
        self.kept: Tensor

    def forward(self) -> Tensor:
        """Return the values, zero where they were pruned."""
        return self.whole() * self.kept

    def learned(self) -> dict[str, Tensor]:
        """Return the values with their zeros."""
        return {"": self.whole().detach().masked_fill(~self.kept, 0.0)}


class OnGrid(Masked):
    """Rounded to a uniform grid, whose steps learn too where asked, and its offset.

    The gradient of a step is that of the rounded value (Esser et al. 2020, equation 3), which follows from
    passing the rounding alone straight through; it is scaled by 1 / sqrt(values a step · levels). An offset is
    the value of the lowest code, as in LSQ+ (Bhalgat et al. 2020, equations 4 and 5); it is kept at whole steps,
    so that zero stays on the grid, and this rounding too is passed straight through.
    """

    def __init__(self, codes: Codes, kept: Tensor, learn_steps: bool, learn_offsets: bool = False) -> None:
        super().__init__(codes.decode(), kept)
        self.codes = codes
        self.step = nn.Parameter(codes.scale.clone(), requires_grad=learn_steps)
        self.offset = nn.Parameter(-codes.zero_point * codes.scale) if learn_offsets else None
        each = codes.codes.numel() / max(1, codes.scale.numel())
        self._top = 2**codes.bits - 1
        self._slowed = 1 / sqrt(max(1.0, each * self._top))

    def forward(self) -> Tensor:
        """Return the values on their grid."""
        step = self._positive(slower(self.step, self._slowed))
        wide, zero = self._spread(step), self._spread(self._zero_point(step))
        return rounded_to(self.whole() * self.kept, wide, zero, self._top)

    def learned(self) -> dict[str, Tensor]:
        """Return the unrounded values, the steps and, where it learned, the codes of zero."""
        step = self._positive(self.step.detach())
        found = {**super().learned(), "scale": step.clone()}
        return found if self.offset is None else {**found, "zero_point": self._zero_point(step).detach().clone()}

    def _zero_point(self, step: Tensor) -> Tensor:
        """Return the code of zero for each slice."""
        if self.offset is None:
            return self.codes.zero_point
        return whole_zero(slower(self.offset, self._slowed), step, self._top)

    def _positive(self, step: Tensor) -> Tensor:
        return step.clamp_min(torch.finfo(torch.float32).eps)

    def _spread(self, values: Tensor) -> Tensor:
        return spread(values, tuple(self.codes.codes.shape), self.codes.axis, self.codes.group)


class Rounded(Masked):
    """Rounded to what a storage can hold: a table's values, 16-bit floats."""

    def __init__(self, storage: Storage, kept: Tensor) -> None:
        super().__init__(storage.decode(), kept)
        self.storage = storage

    def forward(self) -> Tensor:
        """Return the rounded values."""
        values = self.whole() * self.kept
        stored = self.storage.retrained({"": values.detach()})
        assert stored is not None
        return straight(values, stored.decode())


class Shared(Part):
    """Shared values: each learns by the sum of the gradients of the weights that share it.

    Han et al. 2016 for codebooks, Chen et al. 2015 for hash buckets.
    """

    def __init__(self, shared: SharedWeights) -> None:
        super().__init__()
        self.shared = shared
        self.books = nn.Parameter(shared.books.clone())
        self.register_buffer("index", shared.index().long())
        self.index: Tensor

    def forward(self) -> Tensor:
        """Return the values that the weights share, rounded as they will be stored."""
        books: Tensor = self.books
        if self.shared.half:
            books = books + (self.shared.rounded(books.detach()) - books.detach())
        return self.shared.spread(books)[self.index]

    def learned(self) -> dict[str, Tensor]:
        """Return the books."""
        return {"books": self.books.detach().clone()}
