"""Criteria: how much each filter matters, or each channel of a group that lives and dies together.

Norm: Li et al. 2017, "Pruning Filters for Efficient ConvNets". Mean activation: Molchanov et al. 2017,
"Pruning Convolutional Neural Networks for Resource Efficient Inference". APoZ, the share of zeros among a
channel's activations: Hu et al. 2016, "Network Trimming". Both are observed where a channel is read,
after nonlinearity and pooling. BatchNorm's scale: Liu et al. 2017, "Learning Efficient Convolutional
Networks through Network Slimming". FPGM, the distance to the layer's other filters, small near their
geometric median: He et al. 2019, "Filter Pruning via Geometric Median". Taylor and Fisher: see ``criteria``.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from workbench.models.channels import ChannelGroup, Member

from ..context import Context
from ..draft import Draft
from .criteria import chance
from .evidence import Evidence
from .settings import PruneSettings

#: Criteria whose scale differs between layers: ranked together, they are taken relative to their mean.
RELATIVE = frozenset({"magnitude", "activation", "fpgm"})


def filter_importance(
    draft: Draft, group: ChannelGroup, settings: PruneSettings, evidence: Evidence, context: Context
) -> Tensor | None:
    """Return each channel's importance, ``(size,)``; None where the criterion finds nothing to judge by."""
    weights = [f"{member.layer}.weight" for member in _norms_of(draft, group)]
    weights += [draft.layers[member.layer].weight for member in _producers(draft, group)]
    rule = (settings.criterion, settings.norm, settings.seed)
    key = ("filters", group.name, *rule, evidence.key, *map(draft.version, weights))
    return context.cache.get(key, lambda: _importance(draft, group, settings, evidence))


def _importance(draft: Draft, group: ChannelGroup, settings: PruneSettings, evidence: Evidence) -> Tensor | None:
    criterion = settings.criterion
    if criterion == "random":
        return torch.rand(group.size, generator=chance(settings.seed, group.name))
    if criterion == "batchnorm":
        scales = ((member, draft.tensors[f"{member.layer}.weight"].abs()) for member in _norms_of(draft, group))
        return _mean(group, scales)
    if criterion in ("activation", "apoz"):
        read = [(member, evidence.activity[member.layer]) for member in _readers(group, evidence)]
        if criterion == "activation":
            return _mean(group, ((member, seen[0]) for member, seen in read))
        return _mean(group, ((member, 1 - seen[1]) for member, seen in read))
    producers = _producers(draft, group)
    if not producers:
        return None
    found = [(member, _of_filters(draft, member, settings, evidence)) for member in producers]
    total = _total(group, found)
    # the changes of the loss add up, and norms of coupled layers are averaged
    return total.abs() if criterion in ("taylor", "fisher") else total / len(found)


def _of_filters(draft: Draft, member: Member, settings: PruneSettings, evidence: Evidence) -> Tensor:
    """Return a value for each filter of one layer."""
    weight = draft.layers[member.layer].weight
    values = draft.tensors[weight]
    axis = draft.output_axis(member.layer)
    if settings.criterion == "taylor":
        values = values * evidence.gradients[weight]
    if settings.criterion == "fisher":
        values = values.square() * evidence.squares[weight] / 2
    filters = values.movedim(axis, 0).flatten(1)
    if settings.criterion in ("taylor", "fisher"):
        return filters.sum(1)
    if settings.criterion == "fpgm":
        distances: Tensor = torch.cdist(filters, filters, compute_mode="donot_use_mm_for_euclid_dist")
        return distances.sum(1)
    norms: Tensor = filters.norm(1 if settings.norm == "l1" else 2, dim=1)
    return norms


def _total(group: ChannelGroup, values: Iterable[tuple[Member, Tensor]]) -> Tensor:
    total = torch.zeros(group.size)
    for member, value in values:
        channel = torch.tensor(member.channel)
        own = channel >= 0
        total.index_add_(0, channel[own], value[own])
    return total


def _mean(group: ChannelGroup, values: Iterable[tuple[Member, Tensor]]) -> Tensor | None:
    """Return the mean over all places where each channel is seen; None where it is seen nowhere."""
    listed = list(values)
    if not listed:
        return None
    return _total(group, listed) / _total(group, ((member, torch.ones_like(value)) for member, value in listed))


def _producers(draft: Draft, group: ChannelGroup) -> list[Member]:
    return [member for member in group.producers if member.layer in draft.layers]


def _readers(group: ChannelGroup, evidence: Evidence) -> list[Member]:
    return [member for member in group.members if member.side == "in" and member.layer in evidence.activity]


def _norms_of(draft: Draft, group: ChannelGroup) -> list[Member]:
    """Return the BatchNorms that scale the group's channels, known by the statistics they keep."""
    return [
        member
        for member in group.members
        if f"{member.layer}.running_mean" in draft.tensors and f"{member.layer}.weight" in draft.tensors
    ]
