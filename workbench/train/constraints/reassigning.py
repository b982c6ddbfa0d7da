"""Weights that share the values of a codebook and may take another of its entries while they learn.

Han et al. 2016 fix which weights share an entry before any training. Here each weight keeps an unrounded self that
learns by the straight-through estimator and takes the entry nearest to it in every pass, while the entries learn by
the sum of their weights' gradients (Polino, Pascanu and Alistarh 2018, "Model compression via distillation and
quantization", sections 2 and 3).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from workbench.techniques.codebook import SharedValues

from .base import Part
from .gradients import straight


class Reassigned(Part):
    """Codes and books learn; what was pruned stays zero."""

    def __init__(self, shared: SharedValues, values: Tensor) -> None:
        """``values``: the weights before they were shared, of the same shape."""
        super().__init__()
        self.shared = shared
        self.values = nn.Parameter(values.clone())
        self.books = nn.Parameter(shared.books.clone())
        self.register_buffer("kept", shared.codes != shared.books.shape[1])
        self.kept: Tensor

    def forward(self) -> Tensor:
        """Return the values that the weights share, with the gradient of the weights and of the entries."""
        held = self.shared.spread(self.books)[self._with(self._codes()).index().long()]
        values = self.values * self.kept
        return held + straight(values, torch.zeros_like(values))

    def learned(self) -> dict[str, Tensor]:
        """Return the unrounded weights, the books, and which entry each weight takes."""
        values = self.values.detach().masked_fill(~self.kept, 0.0)
        return {"": values, "books": self.books.detach().clone(), "codes": self._codes()}

    @torch.no_grad()
    def _codes(self) -> Tensor:
        """Return the number of the entry nearest to each weight (uint8), the one after the last where it was pruned."""
        codes = torch.empty_like(self.shared.codes)
        parts = zip(self.shared.books_of(self.values), self.shared.books_of(codes), self.books, strict=True)
        for values, places, book in parts:
            entries, order = book.sort()
            places.copy_(order[torch.bucketize(values.contiguous(), (entries[1:] + entries[:-1]) / 2)])
        return codes.masked_fill_(~self.kept, self.books.shape[1])

    def _with(self, codes: Tensor) -> SharedValues:
        return SharedValues(codes, self.shared.books, self.shared.axis, self.shared.per)
