"""What is tried in the search for the smallest encoding, and when one is the smaller; ``blank`` carries it out.

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
from numpy.typing import NDArray

from workbench.encodings.base import Array, Encoding, EncodingError
from workbench.encodings.entropy import Entropy
from workbench.encodings.integers import Packed, code_type
from workbench.encodings.sparse import Bitmask, Mask, RelativeIndex, best_index_bits, gap_fields, gaps_of

NESTING_BYTES = 6
"""What one more level of nesting costs in an archive's compressed header, about; it must save more."""

JOINED_BYTES = 512
"""Bytes below which a table of frequencies of whole bytes costs more than their neighbourhood saves."""

ENTROPY_WIDTHS = {1: (1, 2), 2: (2, 4), 3: (4, 8), 4: (4, 8), 5: (8,), 6: (8,), 7: (8,), 8: (8,), 16: (16,)}
"""Widths to try under a Huffman code: several codes a byte lose least, one a byte has the smaller table."""


def as_codes(values: Array, bits: int, are_joined: bool = False) -> NDArray[np.uint8 | np.uint16]:
    """Check integers for the width and give them in the type it is held in.

    Where that type can hold them and they ``are_joined`` with others, all are looked through there.
    """
    if values.dtype.kind not in "iub":
        raise EncodingError(f"codes must be integers, not {values.dtype}")
    if values.dtype != code_type(bits) or (bits < 8 and not are_joined):
        require_fit(values, bits)
    return np.asarray(values, dtype=code_type(bits), order="C")


def require_fit(values: Array, bits: int) -> None:
    """Raise EncodingError unless the integers are codes of so many bits."""
    if values.size:
        low, high = int(values.min()) if values.dtype.kind == "i" else 0, int(values.max())
        if low < 0 or high >> bits:
            raise EncodingError(f"codes from {low} to {high} do not fit in {bits} bits")


def width_of(count: int) -> int:
    """Bits of a code that numbers ``count`` things."""
    return max(1, (count - 1).bit_length())


def smallest_sparse(left: Mask, values: Encoding, index: Encoding, is_patterned: bool) -> Encoding:
    """A bitmask or a relative index around values that are already encoded, as the mask's bits are in ``index``."""
    best: Encoding = Bitmask(left, values, index)
    # two bits a gap, and fillers: more than the mask's one a position; no index is below a random mask's entropy
    if not is_patterned or values.shape[0] * 5 > left.size * 2:
        return best
    gaps = gaps_of(np.flatnonzero(left))
    width, _ = best_index_bits(gaps)
    fields = Packed(gap_fields(gaps, width), width)
    best = smaller(best, RelativeIndex(left, values, fields, width))
    wide = Entropy(Packed(gap_fields(gaps, 8), 8))
    return smaller(best, RelativeIndex(left, values, wide, 8))


def smaller(simple: Encoding, other: Encoding) -> Encoding:
    """The other one where it saves more than its description costs."""
    return other if other.nbytes + NESTING_BYTES < simple.nbytes else simple
