"""Only the values that were kept, in order, and where they belong.

Two ways to say where. A *bitmask* spends one bit on every position. A *relative index* (Han, Mao & Dally
2016, Deep Compression, section 2) spends `index_bits` on every kept value: the number of empty positions
before it. A gap too long for the field needs filler entries. Deep Compression gives each filler a stored
zero; here the largest field value is itself the filler: it skips 2**index_bits - 1 positions and no value
belongs to it, so that values stay untouched by the width of the index. On 90 % sparse 8-bit weights with
4-bit gaps that is 1.28 instead of 1.42 bits a weight.

The values are an encoding of their own, and so are the bits of the mask and the gaps: either may be
entropy-coded by itself, which is better than together, since their statistics differ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.encodings.base import (
    Array,
    Description,
    Encoding,
    EncodingError,
    Shape,
    mask_entropy_bytes,
    pack_parts,
    read_field,
    register,
    split_part,
    unpack,
)
from workbench.encodings.integers import Packed
from workbench.encodings.once import once

INDEX_BITS = range(2, 9)
"""Widths, in bits, a relative index may have."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class _Sparse(Encoding):
    """What the two have in common: `mask` (True where kept), `values` (1-D), and the coded `index`."""

    mask: Mask
    values: Encoding
    index: Encoding

    def __post_init__(self) -> None:
        if self.mask.dtype != np.bool_ or self.values.shape != (self.kept,):
            raise EncodingError(f"{self.kept} positions are kept, the values' shape is {self.values.shape}")

    @once
    def kept(self) -> int:
        """Number of positions kept."""
        return int(np.count_nonzero(self.mask))

    @once
    def _positions(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.mask)

    @property
    def shape(self) -> Shape:
        return self.mask.shape

    def decode(self, background: ArrayLike = 0) -> Array:
        values = self.values.decode()
        blank = np.asarray(background).astype(values.dtype)
        if not np.array_equal(blank, background):
            raise EncodingError(f"the background does not fit among {values.dtype} values")
        out = np.empty(self.shape, values.dtype)
        out[...] = blank
        np.put(out, self._positions, values)  # much faster than assigning through a random mask
        return out

    def pack(self) -> bytes:
        return self.index.pack() + self.values.pack()

    @property
    def nbytes(self) -> int:
        return self.index.nbytes + self.values.nbytes

    @property
    def entropy_bytes(self) -> float:
        return mask_entropy_bytes(self.mask.size, self.kept) + self.values.entropy_bytes

    def describe(self) -> dict[str, Any]:
        return {"kind": self.kind, **pack_parts(("index", self.index), ("values", self.values))}

    def with_index(self, index: Encoding) -> _Sparse:
        """The same tensor, its index kept in another way."""
        return replace(self, index=index)


@register
@dataclass(frozen=True, eq=False)
class Bitmask(_Sparse):
    """One bit for every position, then the values kept. Build it with `Bitmask.of`."""

    kind: ClassVar[str] = "bitmask"

    @classmethod
    def of(cls, mask: Mask, values: Encoding) -> Bitmask:
        """Keep `values` (1-D, in order) where `mask` is True."""
        return cls(mask, values, mask_bits(mask))

    @classmethod
    def unpack(cls, description: Description, shape: Shape, data: bytes) -> Bitmask:
        size = math.prod(shape)
        index, rest = split_part(description, "index", (size,), data)
        mask = (index.decode() != 0).reshape(shape)
        values = unpack(read_field(description, "values", dict), (int(np.count_nonzero(mask)),), rest)
        return cls(mask, values, index)


@register
@dataclass(frozen=True, eq=False)
class RelativeIndex(_Sparse):
    """The gap before every value kept, in `index_bits` bits, then the values. Build it with `of`."""

    kind: ClassVar[str] = "relative"
    index_bits: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.index_bits not in INDEX_BITS:
            raise EncodingError(f"a relative index has 2 to 8 bits, not {self.index_bits}")

    @classmethod
    def of(cls, mask: Mask, values: Encoding, index_bits: int | None = None) -> RelativeIndex:
        """Keep `values` (1-D, in order) where `mask` is True; by default with the width that costs least."""
        gaps = gaps_of(np.flatnonzero(mask))
        bits = best_index_bits(gaps)[0] if index_bits is None else index_bits
        return cls(mask, values, Packed(gap_fields(gaps, bits), bits), bits)

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "bits": self.index_bits, "fields": self.index.shape[0]}

    @classmethod
    def unpack(cls, description: Description, shape: Shape, data: bytes) -> RelativeIndex:
        size = math.prod(shape)
        bits, count = read_field(description, "bits", int), read_field(description, "fields", int)
        if bits not in INDEX_BITS or not 0 <= count <= size:  # a field stands for one position at least
            raise EncodingError(f"{count} index fields of {bits} bits cannot describe {size} positions")
        index, rest = split_part(description, "index", (count,), data)
        mask = mask_of(index.decode(), bits, size).reshape(shape)
        values = unpack(read_field(description, "values", dict), (int(np.count_nonzero(mask)),), rest)
        return cls(mask, values, index, bits)


def mask_bits(mask: Mask) -> Packed:
    """Keep a mask as one bit a position."""
    return Packed.fitting(np.ravel(mask).view(np.uint8), 1)


def gaps_of(positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the empty positions before each kept one, given in ascending order."""
    gaps = positions.copy()
    gaps[1:] -= positions[:-1]
    gaps[1:] -= 1
    return gaps


def best_index_bits(gaps: NDArray[np.int64]) -> tuple[int, int]:
    """Find the width that packs the gaps into the fewest bits; gives (width, bytes). Ties: the narrowest."""
    counts = np.bincount(gaps) if gaps.size else np.zeros(1, np.int64)
    lengths = np.arange(counts.size)
    sizes = []
    for bits in INDEX_BITS:
        fields = gaps.size + int(counts @ (lengths // ((1 << bits) - 1)))
        sizes.append(((fields * bits + 7) // 8, bits))
    size, bits = min(sizes)
    return bits, size


def field_counts(lengths: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
    """Count how often each field of `bits` bits would occur, fillers last, for so many gaps of each length."""
    full = (1 << bits) - 1
    each = np.bincount(np.arange(lengths.size) % full, lengths, full + 1).astype(np.int64)
    each[full] = lengths @ (np.arange(lengths.size) // full)
    return each


def gap_fields(gaps: NDArray[np.int64], bits: int) -> NDArray[np.uint8]:
    """Write gaps as fields of `bits` bits: fillers of 2**bits - 1 for what does not fit, then the rest."""
    full = (1 << bits) - 1
    if not gaps.size or gaps.max() < full:
        return gaps.astype(np.uint8)
    fillers = gaps // full
    at = np.cumsum(fillers + 1)
    fields = np.full(at[-1], full, np.uint8)
    fields[at - 1] = gaps - fillers * full
    return fields


def mask_of(fields: Array, bits: int, size: int) -> Mask:
    """Read fields of `bits` bits back into a flat mask of `size` positions."""
    full = (1 << bits) - 1
    ends = np.cumsum(np.where(fields == full, full, fields.astype(np.int64) + 1))
    if ends.size and ends[-1] > size:
        raise EncodingError(f"a relative index points beyond the {size} positions of its tensor")
    mask = np.zeros(size, np.bool_)
    mask[ends[fields != full] - 1] = True
    return mask
