"""Zeroing the weights of smallest magnitude: the quick way, which only looks for a threshold.

Han, Pool, Tran and Dally 2015, "Learning both Weights and Connections for Efficient Neural Networks".
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..context import Context
from ..draft import Draft
from ..ranking import Ranking
from .settings import PruneSettings


def suits(settings: PruneSettings) -> bool:
    """Whether one threshold for all of a pool is what the settings ask for."""
    plain = settings.macs is None and settings.threshold_in == "absolute" and not settings.floor
    return settings.by_threshold and plain


def prune_smallest(draft: Draft, names: Sequence[str], settings: PruneSettings, context: Context) -> None:
    """Zero the smallest weights of the layers ``names``, which share their settings."""
    pools = [names] if settings.scope == "global" else [[name] for name in names]
    for pool in pools:
        weights = list(dict.fromkeys(weight for name in pool for weight in draft.layers[name].weights))
        threshold, surplus, spared = settings.threshold, 0, {}
        if threshold is None:
            ranking = _ranked(draft, weights, context)
            count = round(settings.ratio * len(ranking))
            if count == 0:
                continue
            threshold, no_larger = ranking.smallest(count)
            surplus = no_larger - count if threshold else 0  # what is zero already may as well be pruned
            spared = _last_ties(draft, weights, ranking, threshold, surplus)
        how = f"prune {threshold!r}, {surplus} spared, of {' '.join(map(draft.version, weights))}"
        how = hashlib.sha256(how.encode()).hexdigest()
        for weight in weights:
            draft.zero_small(weight, threshold, how, spared.get(weight))
        for name in pool:
            draft.thresholds[name] = max(threshold, draft.thresholds.get(name, 0.0))


def _ranked(draft: Draft, weights: list[str], context: Context) -> Ranking:
    """Return the order of the magnitudes of ``weights`` together."""
    key = ("ranked", *map(draft.version, weights))
    tensors = [draft.tensors[weight] for weight in weights]
    return context.cache.get(key, lambda: Ranking(partial(_magnitudes, tensors)))


def _magnitudes(tensors: Sequence[Tensor]) -> NDArray[np.float32]:
    return torch.cat([tensor.abs().flatten() for tensor in tensors]).numpy()


def _last_ties(draft: Draft, weights: list[str], ranking: Ranking, threshold: float, surplus: int) -> dict[str, Tensor]:
    """Return weight → flat places of the last ``surplus`` values whose magnitude is exactly the threshold."""
    if surplus <= 0:
        return {}
    ends = np.cumsum([draft.tensors[weight].numel() for weight in weights])
    places = ranking.last(threshold, surplus)
    owners = np.searchsorted(ends, places, "right")
    spared = {}
    for owner in np.unique(owners).tolist():
        inside = places[owners == owner] - (ends[owner - 1] if owner else 0)
        spared[weights[owner]] = torch.from_numpy(inside)
    return spared
