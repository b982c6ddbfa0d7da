"""Tensors that learn while they stay compressed.

A Constraint holds what learns of one tensor and gives, in every forward pass, the values the model runs with:
exactly those that will be stored. Rounding is passed straight through (Bengio, Léonard and Courville 2013,
"Estimating or Propagating Gradients Through Stochastic Neurons"): forwards it rounds, backwards it is not
there. What learned is handed over by ``learned``, and put in place by ``Storage.retrained``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch
from math import sqrt
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from workbench.techniques.codebook import SharedWeights
from workbench.techniques.storage import Cast, Codes, Storage, TableCodes


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
        #: What the values are multiplied by before they are constrained (``workbench.train.folding``).
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
    """Rounded to a uniform grid, whose steps learn too where asked.

    The gradient of a step is that of the rounded value (Esser et al. 2020, equation 3), which follows from
    passing the rounding alone straight through; it is scaled by 1 / sqrt(values a step · levels).
    """

    def __init__(self, codes: Codes, kept: Tensor, learn_steps: bool) -> None:
        super().__init__(codes.decode(), kept)
        self.codes = codes
        self.step = nn.Parameter(codes.scale.clone(), requires_grad=learn_steps)
        each = codes.codes.numel() / max(1, codes.scale.numel())
        self._slowed = 1 / sqrt(max(1.0, each * (2**codes.bits - 1)))

    def forward(self) -> Tensor:
        """Return the values on their grid."""
        step = self.step * self._slowed + (self.step * (1 - self._slowed)).detach()
        wide, zero = self._spread(self._positive(step)), self._spread(self.codes.zero_point)
        place = self.whole() * self.kept / wide + zero
        inside = place.clamp(0, 2**self.codes.bits - 1)
        return (inside + (inside.round() - inside).detach() - zero) * wide

    def learned(self) -> dict[str, Tensor]:
        """Return the unrounded values and the steps."""
        return {**super().learned(), "scale": self._positive(self.step.detach()).clone()}

    def _positive(self, step: Tensor) -> Tensor:
        return step.clamp_min(torch.finfo(torch.float32).eps)

    def _spread(self, values: Tensor) -> Tensor:
        codes = self.codes
        if codes.axis is None:
            return values.reshape([1] * codes.codes.ndim)
        if codes.group is None:
            return values.reshape([-1 if axis == codes.axis else 1 for axis in range(codes.codes.ndim)])
        moved = codes.codes.movedim(codes.axis, 0)
        rows = values.view(len(moved), -1).repeat_interleave(codes.group, 1)[:, : moved[0].numel()]
        return rows.reshape(moved.shape).movedim(0, codes.axis)


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
        return values + (stored.decode() - values).detach()


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


def constraint_for(
    values: Tensor, storage: Storage | None, zeroed: Tensor | None, learn_steps: bool = True
) -> Part | None:
    """Return what keeps a tensor compressed while it learns; None where its storage can't learn.

    ``zeroed`` is zero where a weight was pruned, None where nothing was.
    """
    kept = torch.ones_like(values, dtype=torch.bool) if zeroed is None else zeroed != 0
    if storage is None:
        return Constraint(values) if zeroed is None else Masked(values, kept)
    return _constrain(storage, kept, learn_steps)


@singledispatch
def _constrain(storage: Storage, kept: Tensor, learn_steps: bool) -> Part | None:
    return None


@_constrain.register
def _(storage: Codes, kept: Tensor, learn_steps: bool) -> Constraint:
    return OnGrid(storage, kept, learn_steps)


@_constrain.register
def _(storage: SharedWeights, kept: Tensor, learn_steps: bool) -> Shared:
    return Shared(storage)


@_constrain.register(TableCodes)
@_constrain.register(Cast)
def _(storage: Storage, kept: Tensor, learn_steps: bool) -> Constraint:
    return Rounded(storage, kept)
