"""Which Constraint keeps a tensor as its Storage has it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch

import torch
from torch import Tensor

from workbench.techniques.codebook import SharedValues, SharedWeights
from workbench.techniques.storage import Cast, Codes, Storage, TableCodes, TernaryCodes, has_signs

from .base import Constraint, Masked, OnGrid, Part, Rounded, Shared
from .reassigning import Reassigned
from .signs import Binary, Ternary


@dataclass(frozen=True)
class Learns:
    """What learns of storages beside the values: the settings of ``finetune`` of these names."""

    learn_steps: bool = True
    learn_offsets: bool = False
    two_scales: bool = False
    reassign: bool = False


def constraint_for(
    values: Tensor, storage: Storage | None, zeroed: Tensor | None, learns: Learns, whole: Tensor | None = None
) -> Part | None:
    """Return what keeps a tensor compressed while it learns; None where its storage can't learn.

    ``zeroed`` is zero where a weight was pruned, None where nothing was; ``whole`` are the values before they
    were rounded, where they are known: signs say too little of them to begin with.
    """
    kept = torch.ones_like(values, dtype=torch.bool) if zeroed is None else zeroed != 0
    if storage is None:
        return Constraint(values) if zeroed is None else Masked(values, kept)
    if isinstance(storage, TernaryCodes):
        return Ternary(storage, kept, learns.two_scales, whole)
    if isinstance(storage, TableCodes) and has_signs(storage):
        return Binary(storage, kept, whole)
    if isinstance(storage, SharedValues) and learns.reassign:
        return Reassigned(storage, values if whole is None else whole)
    return _constrain(storage, kept, learns)


@singledispatch
def _constrain(storage: Storage, kept: Tensor, learns: Learns) -> Part | None:
    return None


@_constrain.register
def _(storage: Codes, kept: Tensor, learns: Learns) -> Constraint:
    return OnGrid(storage, kept, learns.learn_steps, learns.learn_offsets)


@_constrain.register
def _(storage: SharedWeights, kept: Tensor, learns: Learns) -> Shared:
    return Shared(storage)


@_constrain.register(TableCodes)
@_constrain.register(Cast)
def _(storage: Storage, kept: Tensor, learns: Learns) -> Constraint:
    return Rounded(storage, kept)
