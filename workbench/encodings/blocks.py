"""Product quantization: short runs of weights are the number of a vector in a small table.

Jégou, Douze and Schmid 2011, "Product Quantization for Nearest Neighbor Search"; for weights Stock et al.
2020, "And the Bit Goes Down". What one output multiplies, its inputs and their kernels in order, is cut
into runs of equal length, the last of which may be shorter:

    channel = book[code, 0 … length - 1], book[next code, …], …

A run that is zero altogether takes the code after the last entry; a sparse encoding of the codes leaves it out.
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
    pack_parts,
    read_field,
    register,
    split_part,
    unpack,
)
from workbench.encodings.slices import channel_size

#: Values of an entry that a book may have whatever the tensor's size.
LONGEST = 256


@register
@dataclass(frozen=True, eq=False)
class Blocks(Encoding):
    """Codes (channels along ``axis``, runs of each) into ``book`` (entries, length), floats of any width.

    ``whole`` is the tensor's shape.
    """

    kind: ClassVar[str] = "blocks"
    since: ClassVar[int] = 3
    codes: Encoding
    book: Encoding
    whole: Shape
    axis: int

    def __post_init__(self) -> None:
        if len(self.book.shape) != 2 or not 1 <= self.book.shape[0] <= 255 or self.book.shape[1] < 1:
            raise EncodingError("a book of vectors has the shape (1 to 255 entries, 1 or more values)")
        if self.codes.shape != codes_shape(self.whole, self.axis, self.book.shape[1]):
            raise EncodingError(f"codes of shape {self.codes.shape} do not cover a tensor of shape {self.whole}")

    @property
    def shape(self) -> Shape:
        return self.whole

    def decode(self, background: ArrayLike = 0) -> Array:
        entries, length = self.book.shape
        codes = self.codes.decode(background=entries)
        book = self.book.decode()
        if codes.dtype.kind not in "iu" or (codes.size and int(codes.max()) > entries):
            raise EncodingError(f"a code points beyond the {entries} entries of its book")
        if book.dtype.kind != "f":
            raise EncodingError(f"a book holds floats, not {book.dtype}")
        table = np.zeros((entries + 1, length), np.float32)
        table[:entries] = book
        return from_runs(table.take(codes, axis=0), self.whole, self.axis)

    def pack(self) -> bytes:
        return self.book.pack() + self.codes.pack()

    @property
    def nbytes(self) -> int:
        return self.book.nbytes + self.codes.nbytes

    @property
    def entropy_bytes(self) -> float:
        """Entropy of the codes, and the book as it is stored."""
        return self.book.nbytes + self.codes.entropy_bytes

    def describe(self) -> dict[str, Any]:
        parts = pack_parts(("book", self.book), ("codes", self.codes))
        return {"kind": self.kind, "axis": self.axis, "size": list(self.book.shape), **parts}

    @classmethod
    def unpack(cls, description: Description, shape: Shape, data: bytes) -> Blocks:
        axis, size = read_field(description, "axis", int), read_field(description, "size", list)
        if len(size) != 2 or not all(type(n) is int and 0 < n <= 2**16 for n in size):
            raise EncodingError("the description of a book of vectors has no valid 'size'")
        codes_shape(shape, axis, size[1])
        if size[0] > 255 or size[1] > max(LONGEST, channel_size(shape, axis)):
            raise EncodingError(f"a tensor of shape {shape} needs no book of {size[0]} × {size[1]} values")
        book, rest = split_part(description, "book", tuple(size), data)
        codes = unpack(read_field(description, "codes", dict), codes_shape(shape, axis, size[1]), rest)
        return cls(codes, book, shape, axis)


def codes_shape(shape: Shape, axis: int, length: int) -> Shape:
    """Return the shape of the codes of a tensor cut into runs of ``length``: (channels, runs of each)."""
    if not 0 <= axis < len(shape):
        raise EncodingError(f"a tensor of shape {shape} has no channel axis {axis}")
    return shape[axis], -(-channel_size(shape, axis) // length)


def as_runs(values: Array, axis: int, length: int) -> Array:
    """Return a tensor as (channels, runs, length), the last run of each channel filled up with zeros."""
    rows = np.moveaxis(values, axis, 0).reshape(values.shape[axis], channel_size(values.shape, axis))
    channels, runs = codes_shape(values.shape, axis, length)
    filled = np.zeros((channels, runs * length), values.dtype)
    filled[:, : rows.shape[1]] = rows
    return filled.reshape(channels, runs, length)


def from_runs(runs: Array, shape: Shape, axis: int) -> NDArray[Any]:
    """Undo ``as_runs``; gives a new array."""
    size = channel_size(shape, axis)
    moved = (shape[axis], *(length for index, length in enumerate(shape) if index != axis))
    rows = runs.reshape(shape[axis], math.prod(runs.shape[1:]))[:, :size]
    return np.array(np.moveaxis(rows.reshape(moved), 0, axis), order="C")
