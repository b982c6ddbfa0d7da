"""Runs of weights are numbers of vectors in a codebook, found by k-means of vectors.

Product quantization of weights by Stock et al. 2020, "And the Bit Goes Down": the weights of an output, along
inputs and their kernels, are cut into runs. Where ``weighted``, a run errs by what it changes in the layer's
output on calibration data (the paper's objective, with a second moment for each place of a row). Runs that
pruning left empty stay zero and take no entry; zeros within a run are approximated like other values.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor

from workbench.encodings.blocks import as_runs

from ..codebook import SharedRuns
from ..context import Context
from ..draft import Draft
from ..vectors import Floats, Runs
from .moments import RIDGE, weight_moments
from .settings import ShareSettings


def share(draft: Draft, settings: Mapping[str, ShareSettings], context: Context) -> None:
    """Find the vectors of each layer's weights."""
    moments = weight_moments(draft, settings, context)
    weights = {weight: name for name in settings for weight in draft.layers[name].weights}
    for weight, name in weights.items():
        chosen = settings[name]
        what, moment = moments.get(weight, ("", None))
        options = chosen.model_dump_json(include={"block", "half", "iterations", "seed"})
        key = ("runs", draft.version(weight), chosen.size, options, what)
        axis = draft.output_axis(name)
        storage = context.cache.get(key, partial(_runs, draft, weight, axis, chosen, moment, context))
        draft.store(weight, storage, " ".join(map(str, key)))


def _runs(
    draft: Draft, name: str, axis: int, settings: ShareSettings, moment: Tensor | None, context: Context
) -> SharedRuns:
    weight = draft.tensors[name].float().numpy()
    size = weight.size // max(1, weight.shape[axis])
    cut = as_runs(weight, axis, min(settings.block, max(1, size)))
    shape = tuple(weight.shape)
    runs = Runs(cut.transpose(1, 0, 2), np.asarray(cut.any(2)).T, _metrics(cut.shape[1:], size, moment))
    count = min(settings.size, runs.count)
    if not count:
        empty = torch.zeros(1, cut.shape[2])
        return SharedRuns(torch.ones(cut.shape[:2], dtype=torch.uint8), empty, shape, axis, settings.half)
    centres = runs.cluster(runs.start(count, settings.seed), settings.iterations, context.check)
    if settings.half:
        most = float(np.finfo(np.float16).max)
        centres = centres.clip(-most, most).astype(np.float16).astype(np.float64)
    found, _ = runs.assign(centres, context.check)
    used, numbers = np.unique(found, return_inverse=True)
    codes = np.full(runs.used.shape, len(used), np.uint8)
    codes[runs.used] = numbers
    book = torch.from_numpy(centres[used].astype(np.float32))
    return SharedRuns(torch.from_numpy(np.ascontiguousarray(codes.T)), book, shape, axis, settings.half)


def _metrics(cut: tuple[int, ...], size: int, moment: Tensor | None) -> Floats:
    """Return the metric of each place of a row of ``size`` weights; what fills up the last one counts nothing."""
    places, length = cut
    whole = np.zeros((places * length, places * length), np.float32) if moment is not None else None
    if whole is None or moment is None:
        found = np.tile(np.eye(length, dtype=np.float32), (places, 1, 1))
        ends = np.arange(places * length).reshape(places, length) < size
        return np.asarray(found * ends[:, None, :], np.float32)
    whole[:size, :size] = moment.numpy()
    whole[np.arange(size), np.arange(size)] += RIDGE * float(moment.diagonal().mean()) + np.finfo(np.float32).tiny
    blocks = whole.reshape(places, length, places, length)
    return np.ascontiguousarray(blocks[np.arange(places), :, np.arange(places)])
