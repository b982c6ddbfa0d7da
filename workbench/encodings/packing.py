"""A chosen way to pack what is encoded already: which code, which index of a sparse tensor, and how wide.

The values stay bit for bit the same; only the bytes that say them change.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.encodings.ans import Ans
from workbench.encodings.base import Array, Encoding, zero_order_bytes
from workbench.encodings.blocks import Blocks
from workbench.encodings.codebook import Codebook
from workbench.encodings.dense import Dense, nonzero_bits
from workbench.encodings.entropy import Entropy
from workbench.encodings.grid import Grid
from workbench.encodings.hashed import Hashed
from workbench.encodings.integers import BYTE_FILLING, Packed
from workbench.encodings.slices import spread
from workbench.encodings.smallest import ENTROPY_WIDTHS
from workbench.encodings.sparse import (
    INDEX_BITS,
    Bitmask,
    Mask,
    RelativeIndex,
    field_counts,
    gap_fields,
    gaps_of,
    mask_bits,
)

#: Neighbours resemble each other, so that a code of several may take so much of their entropy; hardly ever less.
NEIGHBOURS = 0.9

Code = Literal["best", "huffman", "ans", "none"]
Sparse = Literal["best", "none", "bitmask", "relative"]


@dataclass(frozen=True)
class Packing:
    """``index_bits`` is the width of a relative index's fields; None takes the one that costs least."""

    code: Code = "best"
    sparse: Sparse = "best"
    index_bits: int | None = None


def repack(encoding: Encoding, packing: Packing) -> Encoding | None:
    """Return the same tensor packed so; None for an encoding whose bytes leave no choice.

    A tensor in which nothing is left out is kept whole, whatever index was chosen.
    """
    if isinstance(encoding, Grid):
        blank: Array = np.asarray(spread(encoding.zero_point, encoding.shape, encoding.axis, encoding.group))
        codes = encoding.codes.decode(background=blank)
        left = codes != blank.astype(codes.dtype)
        return replace(encoding, codes=_arranged(codes, left, _code, packing))
    if isinstance(encoding, Codebook):
        entries = encoding.books.shape[1]
        codes = encoding.codes.decode(background=min(entries, 255))
        return replace(encoding, codes=_arranged(codes, codes != entries, _code, packing))
    if isinstance(encoding, Blocks):
        entries = encoding.book.shape[0]
        codes = encoding.codes.decode(background=entries)
        return replace(encoding, codes=_arranged(codes, codes != entries, _code, packing))
    if isinstance(encoding, Hashed) and encoding.kept is not None:
        kept = encoding.kept.decode()
        return replace(encoding, kept=_arranged(kept, kept != 0, partial(_code, bits=1), packing))
    if isinstance(encoding, Dense | Bitmask | RelativeIndex):
        values = encoding if isinstance(encoding, Dense) else encoding.values
        if not isinstance(values, Dense) or values.type == "bfloat16":
            return None
        whole = encoding.decode()
        return _arranged(whole, nonzero_bits(whole), partial(_as_they_are, type=values.type), packing)
    return None


def _arranged(whole: Array, left: Mask, encode: Callable[[Array, Code], Encoding], packing: Packing) -> Encoding:
    """Return the smallest of the arrangements that ``packing`` allows; ``left`` is True where a value is kept."""
    positions = np.flatnonzero(left)
    found: list[Encoding] = []
    if packing.sparse in ("best", "none") or len(positions) == whole.size:
        found.append(encode(whole, packing.code))
    if len(positions) < whole.size and packing.sparse != "none":
        values = encode(whole.ravel().take(positions), packing.code)
        if packing.sparse in ("best", "bitmask"):
            found.append(Bitmask(left, values, _entropy(mask_bits(left), packing.code)))
        if packing.sparse in ("best", "relative"):
            found += _relative(
                left, positions, values, packing, min((other.bounds[1] for other in found), default=None)
            )
    return _smallest(found)


def _relative(
    left: Mask, positions: NDArray[np.int64], values: Encoding, packing: Packing, limit: float | None
) -> list[RelativeIndex]:
    """Return relative indices of the chosen width, or of each that may be smaller than ``limit`` and the others."""
    gaps = gaps_of(positions)
    lengths = np.bincount(gaps)
    widths = list(INDEX_BITS) if packing.index_bits is None else [packing.index_bits]
    least = {bits: values.bounds[0] + _least_bytes(field_counts(lengths, bits), bits, packing.code) for bits in widths}
    found: list[RelativeIndex] = []
    for bits in sorted(widths, key=least.__getitem__):
        if limit is not None and least[bits] >= limit:
            break
        found.append(RelativeIndex(left, values, _code(gap_fields(gaps, bits), packing.code, bits), bits))
        most = found[-1].bounds[1]
        limit = most if limit is None else min(limit, most)
    return found


def _least_bytes(counts: NDArray[np.int64], bits: int, code: Code) -> float:
    """Return about how few bytes fields of ``bits`` bits that occur ``counts`` times each may take."""
    plain = math.ceil(int(counts.sum()) * bits / 8)
    if code == "none":
        return plain
    coded = NEIGHBOURS * float(zero_order_bytes(counts))
    return coded if code in ("huffman", "ans") else min(plain, coded)


def _code(codes: Array, code: Code, bits: int | None = None) -> Encoding:
    """Return unsigned integers packed, or coded; those of 16 bits have too many values for any but Huffman's."""
    highest = int(codes.max()) if codes.size else 0
    bits = max(1, highest.bit_length()) if bits is None else bits
    if bits > 8:
        return _entropy(Packed(codes.astype(np.uint16), 16), "huffman" if code == "ans" else code)
    packed = Packed(codes.astype(np.uint8), bits)
    if code == "none":
        return packed
    return _coded(packed, [Packed(packed.codes, width) for width in ENTROPY_WIDTHS[bits]], code)


def _entropy(packed: Packed, code: Code) -> Encoding:
    return packed if code == "none" else _coded(packed, [packed], code)


def _coded(packed: Packed, widths: list[Packed], code: Code) -> Encoding:
    """Return the smallest that ``code`` allows; Huffman codes see bytes, whatever width the codes have in them."""
    found: list[Encoding] = [packed] if code == "best" else []
    if code in ("best", "huffman"):
        found += [Entropy(wide) for wide in widths]
    if code in ("best", "ans") and packed.bits <= 8:
        coded = [Ans(packed), *(Ans(wide, joined=True) for wide in widths if wide.bits in BYTE_FILLING)]
        found += coded
    return _smallest(found)


def _smallest(candidates: Sequence[Encoding]) -> Encoding:
    """Return the smallest; only what its frequencies do not rule out is coded."""
    best, *others = sorted(candidates, key=lambda candidate: candidate.bounds[0])
    for other in others:
        if other.bounds[0] >= best.bounds[1]:
            break
        best = other if other.nbytes < best.nbytes else best
    return best


def _as_they_are(values: ArrayLike, code: Code, type: str) -> Encoding:
    """Floating-point values, which no code makes smaller."""
    return Dense(np.asarray(values), type)
