"""The search for the smallest encoding of codes.

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
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.encodings.ans import Ans
from workbench.encodings.base import Array, Encoding, EncodingError, mask_entropy_bytes
from workbench.encodings.entropy import Entropy
from workbench.encodings.integers import BYTE_FILLING, Packed, code_type
from workbench.encodings.once import once
from workbench.encodings.sparse import (
    Bitmask,
    Mask,
    RelativeIndex,
    best_index_bits,
    gap_fields,
    gaps_of,
    mask_bits,
)
from workbench.encodings.tally import JOINED_BYTES, Search

NESTING_BYTES = 6
"""What one more level of nesting costs in an archive's compressed header, about; it must save more."""

_ROUNDING = 1e-3
"""Bytes by which sums of entropies that are equal may differ."""

ENTROPY_WIDTHS = {1: (1, 2), 2: (2, 4), 3: (4, 8), 4: (4, 8), 5: (8,), 6: (8,), 7: (8,), 8: (8,), 16: (16,)}
"""Widths to try under a Huffman code: several codes a byte lose least, one a byte has the smaller table."""


def as_codes(values: Array, bits: int) -> NDArray[np.uint8 | np.uint16]:
    """Check integers for the width and give them in the type it is held in."""
    if values.dtype.kind not in "iub":
        raise EncodingError(f"codes must be integers, not {values.dtype}")
    if values.size and (values.dtype != code_type(bits) or bits < 8):
        low, high = int(values.min()) if values.dtype.kind == "i" else 0, int(values.max())
        if low < 0 or high >> bits:
            raise EncodingError(f"codes from {low} to {high} do not fit in {bits} bits")
    return np.asarray(values, dtype=code_type(bits), order="C")


def width_of(count: int) -> int:
    """Bits of a code that numbers ``count`` things."""
    return max(1, (count - 1).bit_length())


class Places:
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


class PartlyBlank:
    """Codes of which a sparse encoding leaves out those that are blank."""

    def __init__(self, codes: Array, bits: int, mask: Mask | None, background: ArrayLike) -> None:
        codes = as_codes(codes, bits)
        self.blank = as_codes(np.asarray(background), bits)
        self._blank = int(self.blank.flat[0]) if self.blank.size and _is_one(self.blank) else None
        if mask is not None:
            codes = np.asarray(codes * mask + self.blank * ~mask)  # much faster than np.where
        self.packed = Packed.fitting(codes, bits)
        self.places = Places(codes != self.blank)

    @once
    def survivors(self) -> Packed:
        """What is left, in order; how often each code occurs in it follows from how often in all."""
        left = Packed.fitting(self.places.take(self.packed.codes), self.packed.bits)
        counts = self.packed.__dict__.get("counts")
        if counts is not None and self._blank is not None and left.codes.size:
            counts = np.where(np.arange(len(counts)) == self._blank, 0, counts)
            left.__dict__["counts"] = counts[: int(counts.nonzero()[0][-1]) + 1]
        return left

    @once
    def dense(self) -> Encoding:
        """The smallest encoding of all codes."""
        return smallest(self.packed)

    @once
    def is_dense(self) -> bool:
        """Whether it is plain, without a look at what is left, that no sparse encoding is smaller."""
        places, codes = self.places, self.packed.codes
        few = 64 << self.packed.bits > places.kept
        return places.kept == codes.size or not (few or self._blank is None or places.are_patterned)

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

    def search(self) -> Search[Encoding]:
        """Search for the smallest encoding."""
        yield [self.packed]
        if self.is_dense:
            return self.dense
        yield [self.survivors]
        if not self.may_be_sparse:
            return self.dense
        yield [self.places.bits]
        return smaller(self.dense, smallest_sparse(self.places, smallest(self.survivors)))


def smallest_codes(codes: NDArray[np.uint8 | np.uint16], bits: int) -> Encoding:
    """Encode all of these codes in the fewest bytes."""
    return smallest(Packed(codes, bits))


def smallest(packed: Packed) -> Encoding:
    """Packed, under an ANS code, or by Zstandard at the least width that divides a byte."""
    bits = packed.bits
    if packed.nbytes <= 2 * NESTING_BYTES:
        return packed
    best: Encoding = packed if bits > 8 else _smaller_coded(packed)
    width = ENTROPY_WIDTHS[bits][0]
    return smaller(best, Entropy(packed if width == bits else packed.widened(width)))


def smallest_sparse(places: Places, values: Encoding) -> Encoding:
    """A bitmask or a relative index around values that are already encoded."""
    left = places.left
    index = smaller(places.bits, places.compressed)
    best: Encoding = Bitmask(left, values, smaller(index, _smaller_coded(places.bits)))
    # two bits a gap, and fillers: more than the mask's one a position; no index is below a random mask's entropy
    if places.kept * 5 > left.size * 2 or not places.are_patterned:
        return best
    gaps = gaps_of(places.positions)
    width, _ = best_index_bits(gaps)
    fields = Packed(gap_fields(gaps, width), width)
    best = smaller(best, RelativeIndex(left, values, fields, width))
    wide = Entropy(Packed(gap_fields(gaps, 8), 8))
    return smaller(best, RelativeIndex(left, values, wide, 8))


def smaller(simple: Encoding, other: Encoding) -> Encoding:
    """The other one where it saves more than its description costs; coded only where bounds don't tell."""
    (simple_least, simple_most), (least, most) = simple.bounds, other.bounds
    if most + NESTING_BYTES < simple_least:
        return other
    if least + NESTING_BYTES >= simple_most:
        return simple
    return other if other.nbytes + NESTING_BYTES < simple.nbytes else simple


def _smaller_coded(packed: Packed) -> Encoding:
    """Codes under the better of the two ANS codes where that is smaller."""
    code = Ans(packed)
    if packed.bits in BYTE_FILLING and packed.nbytes >= JOINED_BYTES:
        joined = Ans(packed, joined=True)
        code = joined if joined.nbytes + NESTING_BYTES < code.nbytes else code
    return smaller(packed, code)


def _is_one(values: Array) -> bool:
    return values.size <= 1 or bool((values == values.flat[0]).all())
