"""Stored weights as what an ONNX file can look up: indices into a table of values."""

from __future__ import annotations

from functools import singledispatch

import numpy as np
from numpy.typing import NDArray

from workbench.encodings.slices import spread
from workbench.encodings.tables import table_values
from workbench.run.onnx_tables import Table

from .codebook import SharedBuckets, SharedRuns, SharedValues
from .storage import Storage, TableCodes

#: Codes that a file's small integers count, and the widest that are smaller than floats.
_MOST, _WIDEST = 2**8, 2**16


@singledispatch
def as_table(storage: Storage) -> Table | None:
    """Return ``storage`` as a table, None where it has none: a grid, a float type, buckets too many."""
    return None


@as_table.register
def _(storage: TableCodes) -> Table | None:
    values, codes = table_values(storage.table), storage.codes.numpy()
    shape = codes.shape
    if storage.kept is not None:
        values, codes = np.append(values, np.float32(0)), np.where(storage.kept.numpy(), codes, len(values))
    scales = storage.scale.numpy()
    if len(values) > _MOST:
        return None
    codes = codes.astype(np.uint8)
    if storage.group is None or storage.axis is None:
        scale = None if (scales == 1).all() else spread(scales, shape, storage.axis)
        return Table(codes, values, shape, _bits(len(values)), scale=scale)
    rows = np.moveaxis(codes, storage.axis, 0).reshape(shape[storage.axis], -1)
    rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % storage.group)))  # the last group may be shorter
    groups = rows.reshape(shape[storage.axis], -1, storage.group)
    scale = scales.reshape(shape[storage.axis], -1, 1)
    return Table(groups, values, shape, _bits(len(values)), scale=scale, axis=storage.axis)


@as_table.register
def _(storage: SharedValues) -> Table | None:
    codes, books = storage.codes.numpy(), storage.books.numpy()
    pruned = bool((codes == books.shape[1]).any())
    books = np.pad(books, ((0, 0), (0, 1))) if pruned else books
    starts: NDArray[np.int32] | None = None
    if storage.axis is not None:
        own = (np.arange(codes.shape[storage.axis]) // storage.per * books.shape[1]).astype(np.int32)
        starts = own.reshape([-1 if place == storage.axis else 1 for place in range(codes.ndim)])
    return Table(codes, books.reshape(-1), codes.shape, _bits(books.shape[1]), starts=starts)


@as_table.register
def _(storage: SharedRuns) -> Table | None:
    codes, books = storage.codes.numpy(), storage.books.numpy()
    if bool((codes == len(books)).any()):
        books = np.pad(books, ((0, 1), (0, 0)))
    return Table(codes, books, storage.shape, _bits(len(books)), axis=storage.axis)


@as_table.register
def _(storage: SharedBuckets) -> Table | None:
    index, values = storage.index().numpy(), storage.books.numpy()
    if storage.kept is not None:
        values = np.append(values, np.float32(0))
    wide = len(values) > _MOST
    if len(values) > _WIDEST or index.size * (2 if wide else 1) + values.nbytes >= 4 * index.size:
        return None
    bits = 16 if wide else _bits(len(values))
    return Table(index.astype(np.uint16 if wide else np.uint8), values, storage.shape, bits)


def _bits(entries: int) -> int:
    return max(1, (entries - 1).bit_length())
