"""N:M sparsity: of every M consecutive weights along the input channels the N most important stay.

Mishra et al. 2021, "Accelerating Sparse Deep Neural Networks" (2:4); Zhou et al. 2021, "Learning N:M
Fine-grained Structured Sparse Neural Networks From Scratch".
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from workbench.errors import WorkbenchError

from ..context import Context
from ..draft import Draft
from .criteria import importance
from .evidence import Evidence
from .masks import tell_left
from .settings import PruneSettings


def prune_n_of_m(
    draft: Draft, names: Sequence[str], settings: PruneSettings, evidence: Evidence, context: Context
) -> None:
    """Zero all but n of every m weights of the layers ``names``.

    Layers whose inputs m does not divide are left and noted. Raises ``WorkbenchError`` where that is all.
    """
    if settings.ratio == 0:
        return
    fitting = [name for name in names if all(inputs % settings.m == 0 for inputs in _inputs(draft, name))]
    left = [name for name in names if name not in fitting]
    if not fitting:
        inputs = next(count for count in _inputs(draft, names[0]) if count % settings.m)
        raise WorkbenchError(
            f"{settings.n}:{settings.m} pruning needs input channels that {settings.m} divides, and layer "
            f"'{names[0]}' has {inputs}; choose another m or other layers."
        )
    if left:
        tell_left(draft, left, f"{settings.m} does not divide their input channels")
    unjudged = [name for name in fitting if not _prune_layer(draft, name, settings, evidence, context)]
    if unjudged:
        tell_left(draft, unjudged, "wanda needs the inputs of Linear layers and convolutions")


def ranks_of_m(scores: Tensor, m: int, output_axis: int) -> Tensor:
    """Return how many of its m each of ``scores`` comes after (uint8 to m = 256), by size and then by place."""
    axis = _input_axis(scores, output_axis)
    groups = np.ascontiguousarray(scores.movedim(axis, -1).numpy()).reshape(-1, m)
    order = np.argsort(-groups, axis=1, kind="stable")
    ranks = np.empty(groups.shape, np.uint8 if m <= 256 else np.int64)
    np.put_along_axis(ranks, order, np.arange(m, dtype=ranks.dtype)[None], axis=1)
    return torch.from_numpy(ranks).view(scores.movedim(axis, -1).shape).movedim(-1, axis)


def _prune_layer(draft: Draft, name: str, settings: PruneSettings, evidence: Evidence, context: Context) -> bool:
    judged = False
    for weight in draft.layers[name].weights:
        context.check()
        version = draft.version(weight)
        axis = draft.output_axis(name)

        def rank(weight: str, axis: int) -> Tensor | None:
            scores = importance(draft, weight, settings, evidence, lambda values: values)
            return None if scores is None else ranks_of_m(scores, settings.m, axis)

        key = ("n:m", settings.criterion, settings.norm, settings.seed, settings.m, version, evidence.key)
        ranks = context.cache.get(key, partial(rank, weight, axis))
        if ranks is not None:
            how = hashlib.sha256(repr((settings.n, key)).encode()).hexdigest()
            draft.zero(weight, torch.from_numpy(ranks.numpy() >= settings.n), how)
            judged = True
    return judged


def _inputs(draft: Draft, name: str) -> list[int]:
    """Return how many inputs lie along each weight of the layer."""
    axis = draft.output_axis(name)
    tensors = [draft.tensors[weight] for weight in draft.layers[name].weights]
    return [tensor.shape[_input_axis(tensor, axis)] for tensor in tensors]


def _input_axis(weight: Tensor, output_axis: int) -> int:
    return 1 - output_axis if weight.ndim > 1 else 0
