"""Weights are numbers of entries in a codebook of single values, found by k-means.

Han, Mao and Dally 2016, "Deep Compression", section 3. Weights that were pruned stay zero: they are no
entry of the book, and the archive keeps the codes of the others only, where that is smaller.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from ..codebook import SharedValues
from ..draft import Context, Draft
from ..kmeans import SortedValues
from .finite import not_finite
from .settings import ShareSettings

Floats = NDArray[np.float32]
Place = tuple[str, int | None, int]
"""A weight's name, the axis along which books change (None for one book), and the channels of a book."""


def share(draft: Draft, settings: Mapping[str, ShareSettings], context: Context) -> None:
    """Find the codebooks of each layer; layers that share their settings share one book, where the scope says so."""
    pools: dict[ShareSettings, list[Place]] = defaultdict(list)
    for name, chosen in settings.items():
        axis = draft.output_axis(name) if chosen.scope == "group" else None
        pools[chosen] += [(weight, axis, chosen.group) for weight in draft.layers[name].weights]
    for chosen, places in pools.items():
        unique = list(dict.fromkeys(places))
        for pool in [unique] if chosen.scope == "model" else [[place] for place in unique]:
            context.check()
            versions = tuple(draft.version(weight) for weight, _, _ in pool)
            shared = context.cache.get(("shared", versions, chosen), partial(_share, draft, pool, chosen, context))
            how = f"share {chosen.model_dump_json()} {' '.join(versions)}"
            for (weight, _, _), storage in zip(pool, shared, strict=True):
                draft.store(weight, storage, how)


def _share(draft: Draft, pool: list[Place], settings: ShareSettings, context: Context) -> tuple[SharedValues, ...]:
    """Return the storage of each weight of ``pool``, whose books are the same where there is one for all."""
    _, axis, per = pool[0]
    weights = [draft.tensors[name].float().numpy() for name, _, _ in pool]
    if axis is not None and per >= weights[0].shape[axis]:
        axis = None
    versions = tuple(draft.version(name) for name, _, _ in pool)
    key = ("sorted", versions, axis, 0 if axis is None else per)
    runs = _runs(weights, axis, per)
    try:
        ordered = context.cache.get(key, lambda: [SortedValues(run[run != 0]) for run in runs])
        found = [_cluster(run, settings) for run in ordered]
    except ValueError as error:
        raise not_finite([name for name, _, _ in pool]) from error
    entries = max(1, *(len(book) for _, book in found))
    books = np.zeros((len(found), entries), np.float32)
    codes = []
    for book, run, (numbers, values) in zip(books, runs, found, strict=True):
        book[: len(values)] = values
        full = np.full(run.size, entries, np.uint8)
        full[run != 0] = numbers
        codes.append(full)
    shared = torch.from_numpy(books)
    flat = np.split(np.concatenate(codes), np.cumsum([weight.size for weight in weights])[:-1])
    if axis is None:
        return tuple(
            SharedValues(torch.from_numpy(part.reshape(weight.shape)), shared)
            for part, weight in zip(flat, weights, strict=True)
        )
    moved = flat[0].reshape(np.moveaxis(weights[0], axis, 0).shape)
    return (SharedValues(torch.from_numpy(np.ascontiguousarray(np.moveaxis(moved, 0, axis))), shared, axis, per),)


def _runs(tensors: list[Floats], axis: int | None, per: int) -> list[Floats]:
    """Return the values that one book is for, for each book: of all tensors, or of ``per`` channels of the only one."""
    if axis is None:
        return [np.concatenate([tensor.ravel() for tensor in tensors])]
    rows = np.moveaxis(tensors[0], axis, 0)
    return [rows[first : first + per].ravel() for first in range(0, len(rows), per)]


def _cluster(ordered: SortedValues, settings: ShareSettings) -> tuple[NDArray[np.uint8], Floats]:
    if not len(ordered.values):
        return np.empty(0, np.uint8), np.empty(0, np.float32)
    centres = ordered.start(settings.start, settings.size, settings.seed)
    return ordered.assign(ordered.cluster(centres, settings.iterations))
