"""Criteria: how much each weight matters, or each unit of weights that live and die together.

Magnitude: Han et al. 2015. First-order Taylor, ``|Σ gradient × weight|``, the first-order change of the
loss when the unit is zeroed: Molchanov et al. 2019, "Importance Estimation for Neural Network Pruning".
Fisher, ``½ Σ weight² × E[gradient²]``, its second-order change with the empirical Fisher information for
the Hessian: Theis et al. 2018, "Faster gaze prediction with dense networks and Fisher pruning". Wanda,
``|weight| × ‖input‖₂``: Sun et al. 2024, "A Simple and Effective Pruning Approach for Large Language Models".
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor

from ..draft import Draft
from .evidence import Evidence
from .settings import PruneSettings

#: Takes values of a weight's shape to one value a unit, the mean over the unit's weights.
Mean = Callable[[Tensor], Tensor]


def importance(draft: Draft, weight: str, settings: PruneSettings, evidence: Evidence, mean: Mean) -> Tensor | None:
    """Return each unit's importance (float32, ≥ 0); None where the criterion can't judge this weight."""
    values = draft.tensors[weight]
    if settings.criterion == "magnitude":
        return mean(values.abs()) if settings.norm == "l1" else mean(values.square()).sqrt()
    if settings.criterion == "random":
        # what is zero already goes first
        return mean(values.abs()).ne(0) * torch.rand(mean(values).shape, generator=chance(settings.seed, weight))
    if settings.criterion == "taylor":
        return mean(values * evidence.gradients[weight]).abs()
    if settings.criterion == "fisher":
        return mean(values.square() * evidence.squares[weight] / 2)
    norms = evidence.norms.get(weight)
    return None if norms is None else mean(values.abs() * norms)


def chance(seed: int, name: str) -> torch.Generator:
    """Return random numbers that are the same for the same seed and name."""
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
