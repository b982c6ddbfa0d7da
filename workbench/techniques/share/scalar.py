"""Weights are numbers of entries in a codebook of single values, found by k-means.

Han, Mao and Dally 2016, "Deep Compression", section 3. Weights that were pruned stay zero: they are no
entry of the book, and the archive keeps the codes of the others only, where that is smaller.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from ..codebook import SharedValues
from ..draft import Context, Draft
from ..kmeans import SortedValues
from .finite import not_finite
from .settings import ShareSettings

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
            how = f"share {chosen.model_dump_json()} {' '.join(draft.version(weight) for weight, _, _ in pool)}"
            for (weight, _, _), storage in zip(pool, shared_values(draft, pool, chosen, context), strict=True):
                draft.store(weight, storage, how)


def shared_values(
    draft: Draft, pool: list[Place], settings: ShareSettings, context: Context
) -> tuple[SharedValues, ...]:
    """Return the storage of each weight of ``pool``, whose books are the same where there is one for all."""
    versions = tuple(draft.version(weight) for weight, _, _ in pool)
    return context.cache.get(("shared", versions, settings), lambda: _share(draft, pool, settings, context))


def _share(draft: Draft, pool: list[Place], settings: ShareSettings, context: Context) -> tuple[SharedValues, ...]:
    weights = [draft.tensors[weight].float().numpy() for weight, _, _ in pool]
    if len(pool) > 1:
        codes, books = _books([np.concatenate([weight.ravel() for weight in weights])], draft, pool, settings, context)
        parts = np.split(codes[0], np.cumsum([weight.size for weight in weights])[:-1])
        shaped = [part.reshape(weight.shape) for part, weight in zip(parts, weights, strict=True)]
        return tuple(SharedValues(torch.from_numpy(part), torch.from_numpy(books)) for part in shaped)
    ((_, axis, per),), (weight,) = pool, weights
    if axis is None or per >= weight.shape[axis]:
        codes, books = _books([weight.ravel()], draft, pool, settings, context)
        return (SharedValues(torch.from_numpy(codes[0].reshape(weight.shape)), torch.from_numpy(books)),)
    rows = np.moveaxis(weight, axis, 0)
    groups = [rows[first : first + per] for first in range(0, len(rows), per)]
    codes, books = _books([group.ravel() for group in groups], draft, pool, settings, context)
    stacked = np.concatenate([part.reshape(group.shape) for part, group in zip(codes, groups, strict=True)])
    shaped_codes = np.ascontiguousarray(np.moveaxis(stacked, 0, axis))
    return (SharedValues(torch.from_numpy(shaped_codes), torch.from_numpy(books), axis, per),)


def _books(
    values: list[NDArray[np.float32]], draft: Draft, pool: list[Place], settings: ShareSettings, context: Context
) -> tuple[list[NDArray[np.uint8]], NDArray[np.float32]]:
    """Return the codes of each run of ``values`` and their books (runs, entries); code ``entries`` is a zero."""
    versions = tuple(draft.version(weight) for weight, _, _ in pool)
    grouping = (settings.scope, settings.group if settings.scope == "group" else 0)
    try:
        ordered = context.cache.get(
            ("sorted", versions, grouping), lambda: [SortedValues(run[run != 0]) for run in values]
        )
    except ValueError as error:
        raise not_finite([weight for weight, _, _ in pool]) from error
    found = [_cluster(run, settings) for run in ordered]
    entries = max(1, *(len(book) for _, book in found))
    books = np.zeros((len(values), entries), np.float32)
    codes = []
    for index, (run, (numbers, book)) in enumerate(zip(values, found, strict=True)):
        books[index, : len(book)] = book
        full = np.full(run.size, entries, np.uint8)
        full[run != 0] = numbers
        codes.append(full)
    return codes, books


def _cluster(ordered: SortedValues, settings: ShareSettings) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    if not len(ordered.values):
        return np.empty(0, np.uint8), np.empty(0, np.float32)
    centres = ordered.start(settings.start, settings.size, settings.seed)
    return ordered.assign(ordered.cluster(centres, settings.iterations))
