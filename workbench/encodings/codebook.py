"""Shared values: each weight is the number of an entry in a small table (Han, Mao & Dally 2016).

    value = books[channel // per, code]

A tensor has one book, or one for every ``per`` neighbouring channels along an axis. Weights that were pruned take the
code after the last entry, which stands for exactly plus zero; a sparse encoding of the codes leaves those
out, so that the entries stay free for the weights that are left, as in Deep Compression.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.encodings.base import (
    Array,
    Description,
    Encoding,
    EncodingError,
    Shape,
    read_field,
    register,
    split_part,
    unpack,
)
from workbench.encodings.dense import Dense


@register
@dataclass(frozen=True, eq=False)
class Codebook(Encoding):
    """Codes into ``books`` (groups, entries), float32, one for every ``per`` channels along ``axis``.

    With a single book ``axis`` is None. Where ``codes`` is sparse, what is missing decodes to plus zero.
    """

    kind: ClassVar[str] = "codebook"
    codes: Encoding
    books: NDArray[np.float32]
    axis: int | None = None
    per: int = 1

    def __post_init__(self) -> None:
        if self.books.dtype != np.float32 or self.books.ndim != 2 or not 1 <= self.books.shape[1] <= 256:
            raise EncodingError("a codebook is float32 of shape (groups, 1 to 256 entries)")
        wanted = 1
        if self.axis is not None:
            if not 0 <= self.axis < len(self.shape) or self.per < 1:
                raise EncodingError(f"a tensor of shape {self.shape} has no groups of channels along {self.axis}")
            wanted = -(-self.shape[self.axis] // self.per)
        if len(self.books) != wanted:
            raise EncodingError(f"{wanted} codebooks were expected and {len(self.books)} given")

    @property
    def shape(self) -> Shape:
        return self.codes.shape

    def decode(self, background: ArrayLike = 0) -> Array:
        entries = self.books.shape[1]
        codes = self.codes.decode(background=min(entries, 255)).astype(np.intp)
        if codes.size and int(codes.max()) > entries:
            raise EncodingError(f"a code points beyond the {entries} entries of its codebook")
        table = np.zeros((len(self.books), entries + 1), np.float32)
        table[:, :entries] = self.books
        if self.axis is None:
            return np.asarray(table[0].take(codes))
        starts = np.arange(self.shape[self.axis]) // self.per * (entries + 1)
        codes += starts.reshape([-1 if i == self.axis else 1 for i in range(codes.ndim)])
        return np.asarray(table.ravel().take(codes))

    def pack(self) -> bytes:
        return Dense(self.books, "float32").pack() + self.codes.pack()

    @property
    def nbytes(self) -> int:
        return self.books.nbytes + self.codes.nbytes

    @property
    def entropy_bytes(self) -> float:
        """Entropy of the codes, and the books as they are stored."""
        return self.books.nbytes + self.codes.entropy_bytes

    def describe(self) -> dict[str, Any]:
        axis = {} if self.axis is None else {"axis": self.axis, "per": self.per}
        return {"kind": self.kind, **axis, "books": list(self.books.shape), "codes": self.codes.describe()}

    @classmethod
    def unpack(cls, description: Description, shape: Shape, data: bytes) -> Codebook:
        axis = read_field(description, "axis", int) if "axis" in description else None
        per = read_field(description, "per", int) if axis is not None else 1
        size = read_field(description, "books", list)
        if len(size) != 2 or not all(type(n) is int and 0 < n <= max(256, *shape, 1) for n in size):
            raise EncodingError("the description of a codebook has no valid 'books'")
        if 4 * math.prod(size) > len(data):
            raise EncodingError("a codebook is longer than the bytes stored")
        books, rest = split_part({"books": {"kind": "dense", "type": "float32"}}, "books", tuple(size), data)
        codes = unpack(read_field(description, "codes", dict), shape, rest)
        return cls(codes, books.decode(), axis, per)
