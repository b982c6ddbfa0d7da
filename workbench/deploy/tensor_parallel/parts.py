"""Each process's module: its part of the channels, and a sum over all processes where they are mixed."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from workbench.deploy.pipeline.sums import AllReduce
from workbench.models.channels import slices_of
from workbench.models.edits import apply_edits

from .plan import SharePlan


def part_of(module: nn.Module, plan: SharePlan, place: int, processes: int) -> nn.Module:
    """Return a copy of ``module`` with the channels of process ``place``: a run of each group's, as even as can be.

    The bias of a layer whose outputs are added up is the first process's alone.
    """
    part = copy.deepcopy(module)
    kept = []
    for share in plan.shares:
        keep = torch.zeros(share.group.size, dtype=torch.bool)
        keep[torch.arange(share.group.size).tensor_split(processes)[place]] = True
        kept.append((share.group, keep))
    apply_edits(part, slices_of(kept))
    for share in plan.shares:
        for name in share.summed:
            layer = part.get_submodule(name)
            bias = layer.out_proj.bias if isinstance(layer, nn.MultiheadAttention) else layer.bias
            if isinstance(bias, Tensor) and place:
                bias.data = torch.zeros_like(bias)
            layer.register_forward_hook(AllReduce())
    return part
