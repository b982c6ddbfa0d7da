"""A weight whose values are entries of a codebook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from workbench.encodings import Encoding, encode_codebook

from .storage import Storage


@dataclass(frozen=True, eq=False)
class SharedValues(Storage):
    """Codes (uint8, the weight's shape) into ``books`` (groups, entries), at most 255 entries.

    The code ``entries`` is a pruned weight. Where there are several books, each is that of ``per``
    neighbouring channels along ``axis``; with one ``axis`` is None.
    """

    codes: Tensor
    books: Tensor
    axis: int | None = None
    per: int = 1

    @property
    def bits(self) -> float:  # type: ignore[override]
        """Bits of a code, a pruned weight's left out."""
        return max(1, (self.books.shape[1] - 1).bit_length())

    def decode(self) -> Tensor:
        """Return the entries the codes stand for."""
        table = torch.nn.functional.pad(self.books, (0, 1))
        index = self.codes.int()
        if self.axis is not None:
            starts = torch.arange(self.codes.shape[self.axis], dtype=torch.int32) // self.per * table.shape[1]
            index = index + starts.view([-1 if i == self.axis else 1 for i in range(index.ndim)])
        return table.flatten()[index]

    def encode(self) -> Encoding:
        """Return the codes in the fewest bytes, sparse where weights were pruned, with their books."""
        return encode_codebook(self.codes.numpy(), self.books.numpy(), self.axis, self.per)

    def levels(self) -> Tensor:
        """Return the entries, of the middle book where there are several."""
        return self.books[len(self.books) // 2]

    def masked(self, pruned: Tensor) -> SharedValues:
        """Return the same with the weights where ``pruned`` is true set to zero."""
        return SharedValues(self.codes.masked_fill(pruned, self.books.shape[1]), self.books, self.axis, self.per)

    def retrained(self, learned: Mapping[str, Tensor]) -> SharedValues:
        """Return the same codes into the learned books, the part ``books``."""
        return replace(self, books=learned["books"])

    def sliced(self, axis: int, keep: Tensor) -> SharedValues:
        """Return the same with only ``keep`` along ``axis``."""
        codes = self.codes.index_select(axis, keep)
        if axis != self.axis:
            return SharedValues(codes, self.books, self.axis, self.per)
        return SharedValues(codes, self.books[keep // self.per], self.axis, 1)
