"""Encode a tensor's values in the fewest bytes, fast enough to follow a slider; the search is in ``smallest``.

What counts as "left out" is read off the values, not the mask alone: a weight that survived pruning and
was then rounded to zero costs nothing either. The mask only says which values are to be made zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.encodings.base import Array, Encoding, EncodingError, Shape
from workbench.encodings.blank import Around, PartlyBlank, PartlyZero, Whole
from workbench.encodings.blocks import Blocks
from workbench.encodings.codebook import Codebook
from workbench.encodings.dense import Dense, bfloat16_bits, name_of
from workbench.encodings.grid import Grid
from workbench.encodings.hashed import Hashed
from workbench.encodings.levels import Levels, blank_of
from workbench.encodings.search import Search, search_smallest, together
from workbench.encodings.slices import spread
from workbench.encodings.smallest import smaller, width_of
from workbench.encodings.sparse import Mask
from workbench.encodings.tables import table_values


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
        if zeros.strides == (0,):  # one number, repeated
            return zeros[:1]
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
    return together(map(search_grid, values))


def search_grid(one: GridValues) -> Search[Grid]:
    """Search for the encoding of quantized values in the fewest bytes, in step with other searches."""
    codes = yield from search_smallest(PartlyBlank(one.codes, one.bits, one.mask, one.zeros))
    return Grid.of(codes, one.scale, one.zero_point, one.axis, one.group)


def search_levels(
    codes: Array,
    bits: int,
    table: NDArray[np.float32] | str,
    scale: NDArray[np.float32],
    axis: int | None = None,
    group: int | None = None,
    kept: Mask | None = None,
) -> Search[Levels]:
    """Search for the encoding of values of a table, table[code] * scale, in the fewest bytes.

    `table` holds the values, or names one of `tables`. Where `kept` is False the value is plus zero,
    whether the table has a zero or not; the codes there do not matter.
    """
    blank = blank_of(table_values(table))
    has_zero, sparse = blank < 2**bits, None
    if kept is not None and not kept.all():
        sparse = yield from search_smallest(Around(codes, bits, kept))
        if not has_zero:
            return Levels(sparse, table, scale, axis, group)
        codes = np.where(kept, codes, codes.dtype.type(blank))
    tensor = PartlyBlank(codes, bits, None, blank) if has_zero else Whole(codes, bits)
    whole = yield from search_smallest(tensor)
    return Levels(whole if sparse is None else smaller(whole, sparse), table, scale, axis, group)


def encode_codes(codes: Array, bits: int, mask: Mask | None = None, background: ArrayLike = 0) -> Encoding:
    """Encode unsigned integers below 2**bits in the fewest bytes.

    `background` (scalar, or an array that broadcasts) is the code left out by a sparse encoding and set
    where `mask` is False; pass the same to `decode`.
    """
    (found,) = together([search_smallest(PartlyBlank(codes, bits, mask, background))])
    return found


def encode_codebook(codes: Array, books: ArrayLike, axis: int | None = None, per: int = 1) -> Codebook:
    """Encode codes (uint8) into ``books`` (groups, entries) in the fewest bytes; see ``Codebook``.

    The code after the last entry is a weight that was pruned; the books may then have 255 entries at most.
    """
    (found,) = together([search_codebook(codes, books, axis, per)])
    return found


def search_codebook(codes: Array, books: ArrayLike, axis: int | None, per: int) -> Search[Codebook]:
    """Search for what ``encode_codebook`` gives."""
    books = np.ascontiguousarray(books, np.float32)
    return Codebook((yield from _search_entries(codes, books.shape[1])), books, axis, per)


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
    (found,) = together([_search_entries(codes, entries)])
    return found


def _search_entries(codes: Array, entries: int) -> Search[Encoding]:
    """Search for the smallest encoding of numbers of ``entries``; the number after the last is one that is left out."""
    narrow, wide = width_of(entries), width_of(entries + 1)
    if not (codes == entries).any():
        return (yield from search_smallest(Whole(codes, narrow)))
    return (yield from search_smallest(PartlyBlank(codes, wide, None, entries, narrow)))


def encode_values(values: Array, mask: Mask | None = None, type: str | None = None) -> Encoding:
    """Encode floating-point or any other values in the fewest bytes, bit for bit.

    `type` is one of dense.STORED ("float16" and "bfloat16" round to nearest even); by default the
    values' own. Where `mask` is False the value becomes plus zero. Values are never entropy-coded: only
    which of them are zero is.
    """
    (found,) = together([search_values(values, mask, type)])
    return found


def search_values(values: Array, mask: Mask | None = None, type: str | None = None) -> Search[Encoding]:
    """Search for what ``encode_values`` gives."""
    dense = _as_stored(values, type or name_of(values.dtype))
    if mask is not None:
        dense = Dense(_masked(dense.values, mask), dense.type)
    if not dense.zeros:
        return dense
    return (yield from search_smallest(PartlyZero(dense)))


def entropy_bound_bytes(encodings: Iterable[Encoding]) -> int:
    """Bound what any coder without context could store, in bytes: the sum of the zero-order entropies.

    A mask with whole rows pruned is not random, and repeats may be stored in less than that entropy; such
    a tensor counts with the bytes it really takes, so that the bound is never above the file.
    """
    return int(np.floor(sum(encoding.entry.entropy_bytes for encoding in encodings)))


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


def _masked(values: Array, mask: Mask) -> Array:
    """Set what is masked out to plus zero; on the bits, since -1 * 0 is minus zero and NaN * 0 is NaN."""
    bits = np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}")
    return np.asarray(bits * mask).view(values.dtype)
