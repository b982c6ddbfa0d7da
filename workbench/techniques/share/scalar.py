"""Weights are numbers of entries in a codebook of single values, found by k-means.

Han, Mao and Dally 2016, "Deep Compression", section 3. Weights that were pruned stay zero: they are no
entry of the book, and the archive keeps the codes of the others only, where that is smaller.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..codebook import SharedValues
from ..context import Context
from ..draft import Cut, Draft
from ..kmeans import SortedValues, assign_all, cluster_all, start_all
from .settings import ShareSettings

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Pool:
    """Weights whose books are found together: one for all, or one for every ``per`` channels of the only one."""

    names: tuple[str, ...]
    axis: int | None
    per: int


def share(draft: Draft, settings: Mapping[str, ShareSettings], context: Context) -> None:
    """Find the codebooks of each layer; layers that share their settings share one book, where the scope says so."""
    chosen: dict[ShareSettings, list[Pool]] = defaultdict(list)
    for name, item in settings.items():
        axis = draft.output_axis(name) if item.scope == "group" else None
        chosen[item] += [_pool(draft, weight, axis, item.group) for weight in draft.layers[name].weights]
    for item, separate in chosen.items():
        pools = list(dict.fromkeys(separate))
        if item.scope == "model":
            pools = [Pool(tuple(dict.fromkeys(name for pool in pools for name in pool.names)), None, 0)]
        for pool, shared in zip(pools, _shared(draft, pools, item, context), strict=True):
            versions = " ".join(draft.version(name) for name in pool.names)
            for name, storage in zip(pool.names, shared, strict=True):
                draft.store(name, storage, f"share {item.model_dump_json()} {versions}")


def _pool(draft: Draft, weight: str, axis: int | None, per: int) -> Pool:
    whole = axis is None or per >= draft.tensors[weight].shape[axis]
    return Pool((weight,), None if whole else axis, 0 if whole else per)


def _shared(
    draft: Draft, pools: Sequence[Pool], settings: ShareSettings, context: Context
) -> list[tuple[SharedValues, ...]]:
    """Return the storages of each pool's weights; those not known yet are found in one go."""
    keys = [("shared", tuple(map(draft.version, pool.names)), pool, settings) for pool in pools]
    unknown = [pool for pool, key in zip(pools, keys, strict=True) if key not in context.cache]
    ordered = {}
    for pool in unknown:
        context.check()
        ordered[pool] = _ordered(draft, pool, context)
    runs = [run for part in ordered.values() for run in part]
    starts = start_all(runs, settings.start, settings.size, settings.seed)
    books = iter(assign_all(runs, cluster_all(runs, starts, settings.iterations, check=context.check)))
    found = {pool: [(run, *next(books)) for run in part] for pool, part in ordered.items()}
    return [
        context.cache.get(key, partial(_storages, draft, pool, found.get(pool, [])))
        for pool, key in zip(pools, keys, strict=True)
    ]


def _ordered(draft: Draft, pool: Pool, context: Context) -> list[SortedValues]:
    """Return the weights of each book in order, those left out that are zero.

    A slider that cuts off the smallest ones leaves the order of the others as it was.
    """
    cuts = [draft.uncut(name) for name in pool.names]
    thresholds = {cut.threshold for cut in cuts}
    if len(thresholds) > 1:
        cuts = [Cut(draft.tensors[name], draft.version(name), 0.0) for name in pool.names]
    key = ("sorted", tuple(cut.version for cut in cuts), pool.axis, pool.per)
    whole = context.cache.get(key, lambda: [SortedValues(run) for run in _runs([cut.before for cut in cuts], pool)])
    return [run.beyond(max(0.0, cuts[0].threshold)) for run in whole]


def _storages(
    draft: Draft, pool: Pool, found: Sequence[tuple[SortedValues, NDArray[np.uint8], Floats]]
) -> tuple[SharedValues, ...]:
    """Return the storage of each weight from the numbers and the book of each run."""
    entries = max(1, *(len(book) for _, _, book in found))
    books = np.zeros((len(found), entries), np.float32)
    codes = []
    for place, (run, numbers, book) in zip(books, found, strict=True):
        place[: len(book)] = book
        codes.append(run.placed(numbers, entries))
    shared, axis = torch.from_numpy(books), pool.axis
    shapes = [tuple(draft.tensors[name].shape) for name in pool.names]
    flat = np.split(np.concatenate(codes), np.cumsum([math.prod(shape) for shape in shapes])[:-1])
    if axis is None:
        return tuple(
            SharedValues(torch.from_numpy(part.reshape(shape)), shared)
            for part, shape in zip(flat, shapes, strict=True)
        )
    moved = flat[0].reshape(np.moveaxis(np.empty(shapes[0], np.uint8), axis, 0).shape)
    return (SharedValues(torch.from_numpy(np.ascontiguousarray(np.moveaxis(moved, 0, axis))), shared, axis, pool.per),)


def _runs(tensors: Sequence[Tensor], pool: Pool) -> list[Floats]:
    """Return the values that each book of the pool is for."""
    arrays = [tensor.float().numpy() for tensor in tensors]
    if pool.axis is None:
        return [np.concatenate([array.ravel() for array in arrays])]
    rows = np.moveaxis(arrays[0], pool.axis, 0)
    return [rows[first : first + pool.per].ravel() for first in range(0, len(rows), pool.per)]
