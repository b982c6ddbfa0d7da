"""A chosen way to pack what is encoded already: which code, which index of a sparse tensor, and how wide.

The values stay bit for bit the same; only the bytes that say them change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeAlias

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
from workbench.encodings.search import Search
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
#: Gives the encodings of values to choose from under a code.
Ways: TypeAlias = Callable[[Array, Code], list[Encoding]]
Sparse = Literal["best", "none", "bitmask", "relative"]


@dataclass(frozen=True)
class Packing:
    """``index_bits`` is the width of a relative index's fields; None takes the one that costs least."""

    code: Code = "best"
    sparse: Sparse = "best"
    index_bits: int | None = None


def search_packed(encoding: Encoding, packing: Packing) -> Search[Encoding]:
    """Search for the same tensor packed so, in step with others; an encoding whose bytes leave no choice stays.

    A tensor in which nothing is left out is kept whole, whatever index was chosen.
    """
    if isinstance(encoding, Grid):
        blank: Array = np.asarray(spread(encoding.zero_point, encoding.shape, encoding.axis, encoding.group))
        codes = encoding.codes.decode(background=blank)
        left = codes != blank.astype(codes.dtype)
        return replace(encoding, codes=(yield from _search(codes, left, _coded, packing)))
    if isinstance(encoding, Codebook):
        entries = encoding.books.shape[1]
        codes = encoding.codes.decode(background=min(entries, 255))
        return replace(encoding, codes=(yield from _search(codes, codes != entries, _coded, packing)))
    if isinstance(encoding, Blocks):
        entries = encoding.book.shape[0]
        codes = encoding.codes.decode(background=entries)
        return replace(encoding, codes=(yield from _search(codes, codes != entries, _coded, packing)))
    if isinstance(encoding, Hashed) and encoding.kept is not None:
        kept = encoding.kept.decode()
        return replace(encoding, kept=(yield from _search(kept, kept != 0, partial(_coded, bits=1), packing)))
    if isinstance(encoding, Dense | Bitmask | RelativeIndex):
        values = encoding if isinstance(encoding, Dense) else encoding.values
        if isinstance(values, Dense) and values.type != "bfloat16":
            whole = encoding.decode()
            as_they_are = partial(_as_they_are, type=values.type)
            return (yield from _search(whole, nonzero_bits(whole), as_they_are, packing))
    return encoding


def _search(whole: Array, left: Mask, ways: Ways, packing: Packing) -> Search[Encoding]:
    """Search for the smallest of the arrangements that ``packing`` allows; ``left`` is True where a value is kept."""
    positions, code, sparse = np.flatnonzero(left), packing.code, packing.sparse
    is_whole = len(positions) == whole.size
    dense = ways(whole, code) if is_whole or sparse in ("best", "none") else []
    values = [] if is_whole or sparse == "none" else ways(whole.ravel().take(positions), code)
    mask = _ways(mask_bits(left), code) if values and sparse in ("best", "bitmask") else []
    yield _looked_at([*dense, *values, *mask])
    found = [_smallest(dense)] if dense else []
    if values:
        kept = _smallest(values)
        if mask:
            found.append(Bitmask(left, kept, _smallest(mask)))
        if sparse in ("best", "relative"):
            limit = min((other.nbytes for other in found), default=None)
            found += yield from _search_relative(left, positions, kept, packing, limit)
    return _smallest(found)


def _search_relative(
    left: Mask, positions: NDArray[np.int64], values: Encoding, packing: Packing, limit: int | None
) -> Search[list[RelativeIndex]]:
    """Return relative indices of the chosen width, or of each that may be smaller than ``limit`` and the others."""
    gaps = gaps_of(positions)
    widths = list(INDEX_BITS) if packing.index_bits is None else [packing.index_bits]
    least = dict(zip(widths, (values.nbytes + _least_bytes(gaps, widths, packing.code)).tolist(), strict=True))
    found: list[RelativeIndex] = []
    for bits in sorted(widths, key=least.__getitem__):
        if limit is not None and least[bits] >= limit:
            break
        fields = _coded(gap_fields(gaps, bits), packing.code, bits)
        yield _looked_at(fields)
        found.append(RelativeIndex(left, values, _smallest(fields), bits))
        limit = found[-1].nbytes if limit is None else min(limit, found[-1].nbytes)
    return found


def _least_bytes(gaps: NDArray[np.int64], widths: Sequence[int], code: Code) -> NDArray[np.float64]:
    """Return about how few bytes the fields of ``gaps`` may take in each of ``widths``."""
    lengths = np.bincount(gaps)
    counts = np.zeros((len(widths), 1 << max(widths)), np.int64)
    for row, bits in zip(counts, widths, strict=True):
        row[: 1 << bits] = field_counts(lengths, bits)
    plain = np.asarray(np.ceil(counts.sum(axis=1) * widths / 8))
    if code == "none":
        return plain
    # one symbol at a time, an ANS code never takes less than their entropy
    alone = [code == "ans" and not any(width in BYTE_FILLING for width in ENTROPY_WIDTHS[bits]) for bits in widths]
    coded = zero_order_bytes(counts) * np.where(alone, 1, NEIGHBOURS)
    return np.asarray(coded if code in ("huffman", "ans") else np.minimum(plain, coded))


def _coded(codes: Array, code: Code, bits: int | None = None) -> list[Encoding]:
    """Return the ways to keep unsigned integers; those of 16 bits have too many values for any code but Huffman's."""
    highest = int(codes.max()) if codes.size else 0
    bits = max(1, highest.bit_length()) if bits is None else bits
    if bits > 8:
        return _ways(Packed(codes.astype(np.uint16), 16), "huffman" if code == "ans" else code)
    return _ways(Packed(codes.astype(np.uint8, copy=False), bits), code, ENTROPY_WIDTHS[bits])


def _ways(packed: Packed, code: Code, widths: Sequence[int] = ()) -> list[Encoding]:
    """Return the ways that ``code`` allows.

    Huffman codes see bytes, whatever width the codes have in them: each of ``widths`` is tried, the codes' own unless
    they are given.
    """
    found: list[Encoding] = [packed] if code in ("best", "none") else []
    wide = [packed if width == packed.bits else Packed(packed.codes, width) for width in widths] or [packed]
    if code in ("best", "huffman"):
        found += map(Entropy, wide)
    if code in ("best", "ans") and packed.bits <= 8:
        found += [Ans(packed), *(Ans(one, joined=True) for one in wide if one.bits in BYTE_FILLING)]
    return found


def _looked_at(ways: Iterable[Encoding]) -> list[Packed]:
    """Return the codes whose frequencies the choice between ``ways`` asks for."""
    return list({id(way.inner): way.inner for way in ways if isinstance(way, Ans)}.values())


def _smallest(candidates: Sequence[Encoding]) -> Encoding:
    return min(candidates, key=lambda candidate: candidate.nbytes)


def _as_they_are(values: ArrayLike, code: Code, type: str) -> list[Encoding]:
    """Floating-point values, which no code makes smaller."""
    return [Dense(np.asarray(values), type)]
