"""Weights share the buckets that a hash of their places puts them in; no places are stored.

Chen et al. 2015, "Compressing Neural Networks with the Hashing Trick" (HashedNets). A bucket's value is the
mean of its weights, which errs least in the weights; the networks of the paper are trained so, and without
that (``finetune``) much is lost. Pruned weights stay zero and are in no bucket.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import numpy as np
import torch

from workbench.encodings.hashed import bucket_of

from ..codebook import SharedBuckets
from ..context import Context
from ..draft import Draft
from .settings import ShareSettings


def share(draft: Draft, settings: Mapping[str, ShareSettings], context: Context) -> None:
    """Put the weights of each layer in buckets."""
    weights = {weight: chosen for name, chosen in settings.items() for weight in draft.layers[name].weights}
    for weight, chosen in weights.items():
        context.check()
        key = ("buckets", draft.version(weight), chosen.bits, chosen.buckets, chosen.half, chosen.seed)
        storage = context.cache.get(key, partial(_buckets, draft, weight, chosen))
        draft.store(weight, storage, " ".join(map(str, key)))


def _buckets(draft: Draft, name: str, settings: ShareSettings) -> SharedBuckets:
    weight = draft.tensors[name].float().numpy()
    kept = weight != 0
    left = int(np.count_nonzero(kept))
    share = settings.bits / (16 if settings.half else 32) if settings.buckets is None else settings.buckets
    count = max(1, math.ceil(left * share))
    places = bucket_of(weight.size, count, settings.seed)
    flat = weight.ravel()
    members = np.bincount(places, kept.ravel(), count)
    means = np.bincount(places, flat, count) / np.maximum(members, 1)
    values = torch.from_numpy(means.astype(np.float32))
    pruned = None if left == weight.size else torch.from_numpy(kept)
    storage = SharedBuckets(values, tuple(weight.shape), settings.seed, pruned, settings.half)
    return storage.retrained({"books": values})
