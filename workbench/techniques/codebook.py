"""Weights that share values: entries of a codebook, runs that are vectors of one, buckets of a hash."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from workbench.encodings import Encoding, Search, encode_blocks, encode_hashed, search_codebook, together
from workbench.encodings.base import Array
from workbench.encodings.blocks import as_runs, from_runs
from workbench.encodings.hashed import bucket_of

from .storage import Storage

#: Values that a histogram draws, at most.
DRAWN = 256


class SharedWeights(Storage):
    """Weights that are places in ``books``, a float32 tensor whose values may learn.

    Where ``half``, its values are those of 16-bit floats, and stored so.
    """

    books: Tensor
    half: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes of memory that it holds."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, Tensor))

    @abstractmethod
    def index(self) -> Tensor:
        """Return the place (int32, the weight's shape) of each weight in ``spread`` of the books."""

    def spread(self, books: Tensor) -> Tensor:
        """Return the values of ``books`` in a row, followed by the zero that pruned weights share."""
        return torch.nn.functional.pad(books.flatten(), (0, 1))

    def decode(self) -> Tensor:
        """Return the values that the weights share."""
        return torch.from_numpy(self.spread(self.books).numpy().take(self.index().numpy()))

    def levels(self) -> Tensor | None:
        """Return the shared values; None where there are too many to draw."""
        return self.books.flatten() if self.books.numel() <= DRAWN else None

    def rounded(self, books: Tensor) -> Tensor:
        """Return values as they can be stored."""
        return books.half().float() if self.half else books

    def retrained(self, learned: Mapping[str, Tensor]) -> Self:
        """Return the same sharing of the learned books, the part ``books``."""
        subclass: Any = self  # a dataclass, which this is not
        changed: Self = replace(subclass, books=self.rounded(learned["books"]))
        return changed

    def _floats(self) -> Array:
        return self.books.numpy().astype(np.float16 if self.half else np.float32)


@dataclass(frozen=True, eq=False)
class SharedValues(SharedWeights):
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
        return _width(self.books.shape[1])

    def index(self) -> Tensor:
        """Return the place of each weight's entry; every book is followed by a zero of its own."""
        index = self.codes.int()
        if self.axis is not None:
            starts = torch.arange(self.codes.shape[self.axis], dtype=torch.int32) // self.per
            starts = starts * (self.books.shape[1] + 1)
            index = index + starts.view([-1 if i == self.axis else 1 for i in range(index.ndim)])
        return index

    def spread(self, books: Tensor) -> Tensor:
        """Return the entries of all books, each followed by zero."""
        return torch.nn.functional.pad(books, (0, 1)).flatten()

    def encode(self) -> Encoding:
        """Return the codes in the fewest bytes, sparse where weights were pruned, with their books."""
        (found,) = together([self.search()])
        return found

    def search(self) -> Search[Encoding]:
        """Search for what ``encode`` gives, in step with other tensors' searches."""
        return (yield from search_codebook(self.codes.numpy(), self.books.numpy(), self.axis, self.per))

    def books_of(self, values: Tensor) -> list[Tensor]:
        """Return ``values`` of the weight's shape in parts, each a view of those that have one book."""
        return [values] if self.axis is None else list(values.split(self.per, self.axis))

    def retrained(self, learned: Mapping[str, Tensor]) -> SharedValues:
        """Return the same with the learned books, and the part ``codes`` where weights took other entries."""
        return replace(super().retrained(learned), codes=learned.get("codes", self.codes))

    def levels(self) -> Tensor:
        """Return the entries, of the middle book where there are several."""
        return self.books[len(self.books) // 2]

    def masked(self, pruned: Tensor) -> SharedValues:
        """Return the same with the weights where ``pruned`` is true set to zero."""
        return SharedValues(self.codes.masked_fill(pruned, self.books.shape[1]), self.books, self.axis, self.per)

    def sliced(self, axis: int, keep: Tensor) -> SharedValues:
        """Return the same with only ``keep`` along ``axis``."""
        codes = self.codes.index_select(axis, keep)
        if axis != self.axis:
            return SharedValues(codes, self.books, self.axis, self.per)
        return SharedValues(codes, self.books[keep // self.per], self.axis, 1)


@dataclass(frozen=True, eq=False)
class SharedRuns(SharedWeights):
    """Codes (uint8; channels along ``axis``, runs of each) into ``books`` (entries, length), at most 255 entries.

    The code ``entries`` is a run that is zero altogether. ``shape`` is the weight's, cut into runs as in
    ``workbench.encodings.blocks``.
    """

    codes: Tensor
    books: Tensor
    shape: tuple[int, ...]
    axis: int
    half: bool = False

    @property
    def bits(self) -> float:  # type: ignore[override]
        """Bits of a code for each of the weights of a run."""
        return _width(len(self.books)) / self.books.shape[1]

    def index(self) -> Tensor:
        """Return the place of each weight's value."""
        entries, length = self.books.shape
        codes = self.codes.int().unsqueeze(-1)
        places = (codes * length + torch.arange(length, dtype=torch.int32)).clamp_(max=entries * length)
        return torch.from_numpy(from_runs(places.numpy(), self.shape, self.axis))

    def encode(self) -> Encoding:
        """Return the codes in the fewest bytes, sparse where runs are zero, with their book."""
        return encode_blocks(self.codes.numpy(), self._floats(), self.shape, self.axis)

    def masked(self, pruned: Tensor) -> SharedRuns | None:
        """Return the same where whole runs of ``pruned`` are set to zero; None where some are in part."""
        left = self.decode().masked_fill_(pruned, 0.0).numpy()
        runs = torch.from_numpy(as_runs(left != 0, self.axis, self.books.shape[1]).any(2))
        changed = replace(self, codes=self.codes.masked_fill(~runs, len(self.books)))
        return changed if np.array_equal(changed.decode().numpy(), left) else None

    def sliced(self, axis: int, keep: Tensor) -> SharedRuns | None:
        """Return the same with only ``keep`` along ``axis``; None where that cuts runs."""
        if axis != self.axis:
            return None
        shape = tuple(len(keep) if i == axis else size for i, size in enumerate(self.shape))
        return replace(self, codes=self.codes.index_select(0, keep), shape=shape)


@dataclass(frozen=True, eq=False)
class SharedBuckets(SharedWeights):
    """A weight of ``shape`` whose places share the values of ``books`` (buckets,) by a hash with ``seed``.

    ``kept`` (bool, the weight's shape) is false where a weight was pruned; None keeps all. See
    ``workbench.encodings.hashed``.
    """

    books: Tensor
    shape: tuple[int, ...]
    seed: int
    kept: Tensor | None = None
    half: bool = False

    @property
    def bits(self) -> float:  # type: ignore[override]
        """Bits of the buckets for each weight that is left."""
        kept = math.prod(self.shape) if self.kept is None else int(self.kept.sum())
        return round((16 if self.half else 32) * len(self.books) / max(1, kept), 2)

    def index(self) -> Tensor:
        """Return the bucket of each weight; the one after the last where it was pruned."""
        places = bucket_of(math.prod(self.shape), len(self.books), self.seed).astype(np.int32)
        index = torch.from_numpy(places).view(self.shape)
        return index if self.kept is None else index.masked_fill_(~self.kept, len(self.books))

    def encode(self) -> Encoding:
        """Return the buckets, and where weights are left in the fewest bytes."""
        kept = None if self.kept is None else np.ascontiguousarray(self.kept.numpy())
        return encode_hashed(self._floats(), self.shape, self.seed, kept)

    def masked(self, pruned: Tensor) -> SharedBuckets:
        """Return the same with the weights where ``pruned`` is true set to zero."""
        return replace(self, kept=~pruned if self.kept is None else self.kept & ~pruned)


def _width(count: int) -> int:
    """Bits of a code that numbers ``count`` things."""
    return max(1, (count - 1).bit_length())
