"""Zeroing the least important units of weights, ranked within a layer or across layers."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from ..context import Context
from ..draft import Draft
from ..ranking import Ranking
from .criteria import importance
from .evidence import Evidence
from .settings import PruneSettings
from .units import Units

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Part:
    """One weight of the pool: its layer, its units, and what each of them matters."""

    layer: str
    weight: str
    units: Units
    scores: Floats


def prune_units(
    draft: Draft, names: Sequence[str], settings: PruneSettings, evidence: Evidence, context: Context
) -> None:
    """Zero the least important units of the layers ``names``, which share their settings."""
    found = [_parts(draft, name, settings, evidence, context) for name in names]
    left = [name for name, parts in zip(names, found, strict=True) if not parts]
    if left:
        tell_left(draft, left, _NO_KERNELS if settings.granularity == "kernel" else _NO_INPUTS)
    pools = [[part for parts in found for part in parts]] if settings.scope == "global" else found
    for pool in pools:
        context.check()
        if pool:
            _prune_pool(draft, pool, settings, evidence, context)


def tell_left(draft: Draft, left: Sequence[str], why: str) -> None:
    """Note which layers a step leaves as they are, and why."""
    shown = ", ".join(f"'{name}'" for name in left[:4]) + (f" and {len(left) - 4} more" if len(left) > 4 else "")
    draft.notes.append(f"Left as they are: {shown}; {why}.")


#: Why a layer has nothing to rank.
_NO_INPUTS = "wanda needs the inputs of Linear layers and convolutions, and these are of other types"
_NO_KERNELS = "only convolutions have kernels"


def _parts(draft: Draft, name: str, settings: PruneSettings, evidence: Evidence, context: Context) -> list[Part]:
    parts = []
    for weight in draft.layers[name].weights:
        units = Units(tuple(draft.tensors[weight].shape), draft.output_axis(name), settings)
        if not units.possible:
            continue
        compute = partial(importance, draft, weight, settings, evidence, units.mean)
        scores = context.cache.get((*_rule(settings), draft.version(weight), evidence.key), compute)
        if scores is not None:
            parts.append(Part(name, weight, units, scores.numpy()))
    return parts


def _rule(settings: PruneSettings) -> tuple[object, ...]:
    """Return what the scores depend on beside the weights and the data."""
    block = (settings.block_rows, settings.block_columns) if settings.granularity == "block" else ()
    return "scores", settings.criterion, settings.granularity, settings.norm, settings.seed, block


def _prune_pool(
    draft: Draft, pool: Sequence[Part], settings: PruneSettings, evidence: Evidence, context: Context
) -> None:
    versions = tuple(draft.version(part.weight) for part in pool)
    key = (*_rule(settings), evidence.key, settings.floor, settings.scope, versions)
    how = hashlib.sha256(f"prune {settings!r} {key}".encode()).hexdigest()
    if settings.scope == "row":
        flat = np.concatenate([_each_row(part, settings, context, key) for part in pool])
    else:
        scores = context.cache.get(("pool", key), lambda: _joined(pool, settings))
        flat = _choose(draft, pool, scores, settings, context, key)
    if not flat.any():
        return
    ends = np.cumsum([0, *(len(part.scores) for part in pool)])
    for part, (start, stop) in zip(pool, pairwise(ends), strict=True):
        chosen = flat[start:stop]
        if settings.by_threshold and chosen.any():
            reached = float(part.scores[chosen].max())
            draft.thresholds[part.layer] = max(reached, draft.thresholds.get(part.layer, 0.0))
        draft.zero(part.weight, part.units.spread(torch.from_numpy(chosen)), how)


def _joined(pool: Sequence[Part], settings: PruneSettings) -> Floats:
    """Return the scores of all units one after the other; those that the floor protects are infinite."""
    if not settings.floor or settings.scope != "global":
        return np.concatenate([part.scores for part in pool])
    joined = []
    for _, parts in groupby(pool, lambda part: part.layer):
        scores = np.concatenate([part.scores for part in parts])
        kept = math.ceil(settings.floor * len(scores) - 1e-9)
        if kept:
            scores[np.argsort(scores, kind="stable")[-kept:]] = np.inf
        joined.append(scores)
    return np.concatenate(joined)


def _choose(
    draft: Draft, pool: Sequence[Part], scores: Floats, settings: PruneSettings, context: Context, key: object
) -> Flags:
    """Return which units go: up to the threshold, the share of MACs, or the ratio."""
    if settings.threshold is not None:
        limits = [settings.threshold * _unit_of_threshold(draft, part, settings) for part in pool]
        return scores <= np.repeat(np.array(limits, np.float32), [len(part.scores) for part in pool])
    if settings.macs is not None:
        return _to_share_of_macs(draft, pool, scores, settings.macs, context, key)
    ranking = context.cache.get(("ranking", key), lambda: Ranking(lambda: scores))
    count = min(round(settings.ratio * len(scores)), int(np.isfinite(scores).sum()))
    if count == 0:
        return np.zeros(len(scores), bool)
    if count < round(settings.ratio * len(scores)):
        draft.notes.append(
            f"The floor of {settings.floor:.0%} in each layer stops pruning at {count / len(scores):.0%}."
        )
    limit, no_larger = ranking.smallest(count)
    flags = scores <= np.float32(limit)
    if no_larger > count:  # of equals, the last ones stay
        flags[np.flatnonzero(scores == np.float32(limit))[count - no_larger :]] = False
    return flags


def _unit_of_threshold(draft: Draft, part: Part, settings: PruneSettings) -> float:
    if settings.threshold_in == "absolute":
        return 1.0
    return float(torch.cat([draft.tensors[name].flatten() for name in draft.layers[part.layer].weights]).std())


def _to_share_of_macs(
    draft: Draft, pool: Sequence[Part], scores: Floats, share: float, context: Context, key: object
) -> Flags:
    """Return the least important units without which at most ``share`` of the pool's MACs are left."""

    def compute() -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        costs = np.concatenate([_macs_of_units(draft, part) for part in pool])
        order = np.argsort(scores, kind="stable")
        return order, np.cumsum(costs[order]) / max(1e-9, costs.sum())

    order, removed = context.cache.get(("macs", key), compute)
    count = int(np.searchsorted(removed, 1 - share - 1e-12)) + 1 if share < 1 else 0
    flags = np.zeros(len(scores), bool)
    flags[order[:count]] = True
    flags &= np.isfinite(scores)
    return flags


def _macs_of_units(draft: Draft, part: Part) -> NDArray[np.float64]:
    """Return the MACs of each unit, every weight of a layer taking an equal share of the layer's."""
    layer = draft.layers[part.layer]
    return part.units.counts().numpy().astype(np.float64) * (layer.macs / max(1, math.prod(layer.shape)))


def _each_row(part: Part, settings: PruneSettings, context: Context, key: object) -> Flags:
    """Return the weights that rank within the ratio among those of the same output."""

    def rank() -> NDArray[np.int64]:
        rows = np.moveaxis(part.scores.reshape(part.units.shape), part.units.axis, 0)
        flat = rows.reshape(len(rows), -1)
        places = np.argsort(np.argsort(flat, axis=1, kind="stable"), axis=1, kind="stable")
        return np.moveaxis(places.reshape(rows.shape), 0, part.units.axis).reshape(-1)

    places = context.cache.get(("rows", part.weight, key), rank)
    return places < round(settings.ratio * len(places) / part.units.shape[part.units.axis])
