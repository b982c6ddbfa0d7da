"""Find the smallest encoding for a tensor, fast enough to follow a slider.

Candidates, simplest first: packed; under an ANS code, which comes within bytes of the zero-order entropy,
code by code or byte by byte;
Huffman-coded by Zstandard, which also finds repeats; sparse with a bitmask or a relative index, either of
them plain or coded, around the values that are left, themselves plain or coded. Sizes that follow from
counts are computed, compressed ones are compressed: they are bytes, not estimates. On a tie the simpler
one wins.

Where all that is left out has the same code, one code for zeros and values together is never longer than
one for the mask and one for the values. Sparse codes then only win where the mask is less than random: whole
rows were pruned, say. Zstandard makes such a mask smaller than its entropy, and that is how it is noticed.
Values so few that a table of frequencies counts beside them are tried in every way.

What counts as "left out" is read off the values, not the mask alone: a weight that survived pruning and
was then rounded to zero costs nothing either. The mask only says which values are to be made zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.encodings.ans import Ans
from workbench.encodings.base import Array, Encoding, EncodingError, Shape, mask_entropy_bytes
from workbench.encodings.blocks import Blocks
from workbench.encodings.codebook import Codebook
from workbench.encodings.dense import Dense, bfloat16_bits, nonzero_bits
from workbench.encodings.entropy import Entropy
from workbench.encodings.grid import Grid
from workbench.encodings.hashed import Hashed
from workbench.encodings.integers import BYTE_FILLING, Packed, code_type
from workbench.encodings.levels import Levels, blank_of
from workbench.encodings.once import once
from workbench.encodings.slices import spread
from workbench.encodings.sparse import (
    Bitmask,
    Mask,
    RelativeIndex,
    best_index_bits,
    gap_fields,
    gaps_of,
    mask_bits,
)
from workbench.encodings.tables import table_values
from workbench.encodings.tally import JOINED_BYTES, tally

NESTING_BYTES = 6
"""What one more level of nesting costs in an archive's compressed header, about; it must save more."""

_ROUNDING = 1e-3
"""Bytes by which sums of entropies that are equal may differ."""

ENTROPY_WIDTHS = {1: (1, 2), 2: (2, 4), 3: (4, 8), 4: (4, 8), 5: (8,), 6: (8,), 7: (8,), 8: (8,), 16: (16,)}
"""Widths to try under a Huffman code: several codes a byte lose least, one a byte has the smaller table."""


class GridValues(NamedTuple):
    """Quantized values, (codes - zero_point) * scale.

    `codes`: integers from 0 to 2**bits - 1 in the tensor's shape. `scale`, `zero_point`: scalars, or one
    for each channel along `axis`, or for each `group` values of it. `mask`: True where a weight is kept;
    the others decode to exactly 0.
    """

    codes: Array
    bits: int
    scale: ArrayLike
    zero_point: ArrayLike
    axis: int | None = None
    mask: Mask | None = None
    group: int | None = None

    @property
    def zeros(self) -> Array:
        """The code of zero, for each value where they differ."""
        zeros = np.asarray(self.zero_point)
        if self.axis is not None and zeros.size > 1:
            return spread(zeros, self.codes.shape, self.axis, self.group)
        return zeros


def encode_grid(
    codes: Array,
    bits: int,
    scale: ArrayLike,
    zero_point: ArrayLike,
    axis: int | None = None,
    mask: Mask | None = None,
    group: int | None = None,
) -> Grid:
    """Encode quantized values in the fewest bytes; see ``GridValues``."""
    (grid,) = encode_grids([GridValues(codes, bits, scale, zero_point, axis, mask, group)])
    return grid


def encode_grids(values: Sequence[GridValues]) -> list[Grid]:
    """Encode the quantized values of many tensors, each in the fewest bytes: quicker than one after the other."""
    chosen = [_Codes(one.codes, one.bits, one.mask, one.zeros) for one in values]
    if len(chosen) > 1:
        tally(one.packed for one in chosen)
        unsure = [one for one in chosen if not one.is_dense]
        tally(one.survivors for one in unsure)
        tally(one.places.bits for one in unsure if one.may_be_sparse)
    return [
        Grid.of(codes.smallest(), one.scale, one.zero_point, one.axis, one.group)
        for one, codes in zip(values, chosen, strict=True)
    ]


def encode_levels(
    codes: Array,
    bits: int,
    table: NDArray[np.float32] | str,
    scale: NDArray[np.float32],
    axis: int | None = None,
    group: int | None = None,
    kept: Mask | None = None,
) -> Levels:
    """Encode values of a table, table[code] * scale, in the fewest bytes.

    `table` holds the values, or names one of `tables`. Where `kept` is False the value is plus zero,
    whether the table has a zero or not; the codes there do not matter.
    """
    blank = blank_of(table_values(table))
    codes = _as_codes(codes, bits)
    if kept is not None and not kept.all():
        places = _Places(kept)
        sparse = _smallest_sparse(places, _smallest_codes(places.take(codes), bits))
        if not blank < 2**bits:
            return Levels(sparse, table, scale, axis, group)
        filled = encode_codes(np.where(kept, codes, codes.dtype.type(blank)), bits, background=blank)
        return Levels(_smaller(filled, sparse), table, scale, axis, group)
    inner = encode_codes(codes, bits, background=blank) if blank < 2**bits else _smallest_codes(codes, bits)
    return Levels(inner, table, scale, axis, group)


def encode_codes(codes: Array, bits: int, mask: Mask | None = None, background: ArrayLike = 0) -> Encoding:
    """Encode unsigned integers below 2**bits in the fewest bytes.

    `background` (scalar, or an array that broadcasts) is the code left out by a sparse encoding and set
    where `mask` is False; pass the same to `decode`.
    """
    return _Codes(codes, bits, mask, background).smallest()


class _Codes:
    """Codes of which a sparse encoding leaves out those that are blank."""

    def __init__(self, codes: Array, bits: int, mask: Mask | None, background: ArrayLike) -> None:
        codes = _as_codes(codes, bits)
        self.blank = _as_codes(np.asarray(background), bits)
        if mask is not None:
            codes = np.asarray(codes * mask + self.blank * ~mask)  # much faster than np.where
        self.packed = Packed(codes, bits)
        self.places = _Places(codes != self.blank)

    @once
    def survivors(self) -> Packed:
        """What is left, in order."""
        return Packed(self.places.take(self.packed.codes), self.packed.bits)

    @once
    def dense(self) -> Encoding:
        """The smallest encoding of all codes."""
        return _smallest(self.packed)

    @once
    def is_dense(self) -> bool:
        """Whether it is plain, without a look at what is left, that no sparse encoding is smaller."""
        places, codes = self.places, self.packed.codes
        few = 64 << self.packed.bits > places.kept
        return places.kept == codes.size or not (few or not _is_one(self.blank) or places.are_patterned)

    @once
    def may_be_sparse(self) -> bool:
        """Whether a sparse encoding is to be tried."""
        if self.is_dense:
            return False
        places, survivors = self.places, self.survivors
        _, most = self.dense.bounds
        # a code of what is left exceeds its entropy, or stays below it, by what the code of all does
        coded = survivors.entropy_bytes + most - self.dense.entropy_bytes
        # of random places, with one code for what is left out, the sum is the code of all: then both are tried
        return places.entropy_bytes + min(coded, survivors.nbytes) < most + _ROUNDING or places.are_patterned

    def smallest(self) -> Encoding:
        """Return the smallest encoding."""
        if not self.may_be_sparse:
            return self.dense
        return _smaller(self.dense, _smallest_sparse(self.places, _smallest(self.survivors)))


def encode_codebook(codes: Array, books: ArrayLike, axis: int | None = None, per: int = 1) -> Codebook:
    """Encode codes (uint8) into ``books`` (groups, entries) in the fewest bytes; see ``Codebook``.

    The code after the last entry is a weight that was pruned; the books may then have 255 entries at most.
    """
    books = np.ascontiguousarray(books, np.float32)
    return Codebook(_entry_codes(codes, books.shape[1]), books, axis, per)


def encode_blocks(codes: Array, book: Array, shape: Shape, axis: int) -> Blocks:
    """Encode codes (uint8; channels, runs) into ``book`` (entries, length), kept as it comes, in the fewest bytes.

    The code after the last entry is a run that is zero; see ``Blocks``.
    """
    return Blocks(_entry_codes(codes, len(book)), Dense.of(book), shape, axis)


def encode_hashed(buckets: Array, shape: Shape, seed: int, kept: Mask | None = None) -> Hashed:
    """Encode ``buckets``, kept as they come, and where a weight is not zero in the fewest bytes; see ``Hashed``."""
    places = None if kept is None else encode_codes(kept.view(np.uint8), 1)
    return Hashed(Dense.of(buckets), shape, seed, places)


def _entry_codes(codes: Array, entries: int) -> Encoding:
    """The smallest encoding of numbers of ``entries``; the number after the last is one that is left out."""
    places = _Places(codes != entries)
    if places.kept == codes.size:
        return _smallest_codes(_as_codes(codes, _width(entries)), _width(entries))
    width = _width(entries + 1)
    best = _smallest_codes(_as_codes(codes, width), width)
    if 64 << width <= places.kept and not places.are_patterned:
        return best
    return _smaller(best, _smallest_sparse(places, _smallest_codes(places.take(codes), _width(entries))))


def encode_values(values: Array, mask: Mask | None = None, type: str | None = None) -> Encoding:
    """Encode floating-point or any other values in the fewest bytes, bit for bit.

    `type` is one of dense.STORED ("float16" and "bfloat16" round to nearest even); by default the
    values' own. Where `mask` is False the value becomes plus zero. Values are never entropy-coded: only
    which of them are zero is.
    """
    dense = _as_stored(values, type or values.dtype.name)
    if mask is not None:
        dense = Dense(_masked(dense.values, mask), dense.type)
    array = dense.values
    places = _Places(nonzero_bits(array))
    if (array.size - places.kept) * array.dtype.itemsize <= places.entropy_bytes:
        return dense
    return _smaller(dense, _smallest_sparse(places, Dense(places.take(array), dense.type)))


def entropy_bound_bytes(encodings: Iterable[Encoding]) -> int:
    """Bound what any coder without context could store, in bytes: the sum of the zero-order entropies.

    A mask with whole rows pruned is not random, and repeats may be stored in less than that entropy; such
    a tensor counts with the bytes it really takes, so that the bound is never above the file.
    """
    return int(np.floor(sum(encoding.entry.entropy_bytes for encoding in encodings)))


def _as_codes(values: Array, bits: int) -> NDArray[np.uint8 | np.uint16]:
    """Check integers for the width and give them in the type it is held in."""
    if values.dtype.kind not in "iub":
        raise EncodingError(f"codes must be integers, not {values.dtype}")
    if values.size and (values.dtype != code_type(bits) or bits < 8):
        low, high = int(values.min()) if values.dtype.kind == "i" else 0, int(values.max())
        if low < 0 or high >> bits:
            raise EncodingError(f"codes from {low} to {high} do not fit in {bits} bits")
    return np.asarray(values, dtype=code_type(bits), order="C")


def _width(count: int) -> int:
    """Bits of a code that numbers ``count`` things."""
    return max(1, (count - 1).bit_length())


def _as_stored(values: Array, kind: str) -> Dense:
    if kind == "bfloat16" and values.dtype != np.uint16:
        return Dense(bfloat16_bits(values), kind)
    if kind == "bfloat16":
        return Dense(values, kind)
    try:
        with np.errstate(over="ignore"):
            return Dense(np.ascontiguousarray(values, dtype=np.dtype(kind)).reshape(values.shape), kind)
    except TypeError as error:
        raise EncodingError(f"values of type {kind} cannot be kept") from error


class _Places:
    """Where values are left, and what it costs to say so; each of it is worked out once."""

    def __init__(self, left: Mask) -> None:
        self.left = left
        self.kept = int(np.count_nonzero(left))

    @once
    def positions(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.left)

    @once
    def bits(self) -> Packed:
        return mask_bits(self.left)

    @once
    def compressed(self) -> Entropy:
        return Entropy(self.bits)

    @property
    def entropy_bytes(self) -> float:
        """What as many places need where they are random."""
        return mask_entropy_bytes(self.left.size, self.kept)

    @property
    def are_patterned(self) -> bool:
        """Whether repeats make them cheaper to say than random ones."""
        return self.compressed.nbytes < self.entropy_bytes

    def take(self, values: Array) -> Array:
        """The values there, in order."""
        return values.ravel().take(self.positions)


def _smallest_codes(codes: NDArray[np.uint8 | np.uint16], bits: int) -> Encoding:
    return _smallest(Packed(codes, bits))


def _smallest(packed: Packed) -> Encoding:
    """Packed, under an ANS code, or by Zstandard at the least width that divides a byte."""
    bits = packed.bits
    if packed.nbytes <= 2 * NESTING_BYTES:
        return packed
    best: Encoding = packed if bits > 8 else _smaller_coded(packed)
    width = ENTROPY_WIDTHS[bits][0]
    return _smaller(best, Entropy(packed if width == bits else Packed(packed.codes, width)))


def _masked(values: Array, mask: Mask) -> Array:
    """Set what is masked out to plus zero; on the bits, since -1 * 0 is minus zero and NaN * 0 is NaN."""
    bits = np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}")
    return np.asarray(bits * mask).view(values.dtype)


def _smallest_sparse(places: _Places, values: Encoding) -> Encoding:
    """A bitmask or a relative index around values that are already encoded."""
    left = places.left
    index = _smaller(places.bits, places.compressed)
    best: Encoding = Bitmask(left, values, _smaller(index, _smaller_coded(places.bits)))
    # two bits a gap, and fillers: more than the mask's one a position; no index is below a random mask's entropy
    if places.kept * 5 > left.size * 2 or not places.are_patterned:
        return best
    gaps = gaps_of(places.positions)
    width, _ = best_index_bits(gaps)
    fields = Packed(gap_fields(gaps, width), width)
    best = _smaller(best, RelativeIndex(left, values, fields, width))
    wide = Entropy(Packed(gap_fields(gaps, 8), 8))
    return _smaller(best, RelativeIndex(left, values, wide, 8))


def _is_one(values: Array) -> bool:
    return values.size <= 1 or bool((values == values.flat[0]).all())


def _smaller_coded(packed: Packed) -> Encoding:
    """Codes under the better of the two ANS codes where that is smaller."""
    code = Ans(packed)
    if packed.bits in BYTE_FILLING and packed.nbytes >= JOINED_BYTES:
        joined = Ans(packed, joined=True)
        code = joined if joined.expected_bytes + NESTING_BYTES < code.expected_bytes else code
    return _smaller(packed, code)


def _smaller(simple: Encoding, other: Encoding) -> Encoding:
    """The other one where it saves more than its description costs; coded only where bounds don't tell."""
    (simple_least, simple_most), (least, most) = simple.bounds, other.bounds
    if most + NESTING_BYTES < simple_least:
        return other
    if least + NESTING_BYTES >= simple_most:
        return simple
    return other if other.nbytes + NESTING_BYTES < simple.nbytes else simple
