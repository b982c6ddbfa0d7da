"""Removing whole filters: of smallest norm, with all the channels that must go with them.

Li et al. 2017, "Pruning Filters for Efficient ConvNets"; channels that must go together are found by
the dependency graph of Fang et al. 2023.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor

from workbench.models.channels import ChannelGroup, slices_of

from ..draft import Context, Draft
from .settings import PruneSettings


def prune_filters(draft: Draft, settings: Mapping[str, PruneSettings], context: Context) -> None:
    """Remove filters of the layers that ``settings`` names; coupled layers follow the mildest of theirs."""
    graph = draft.channels(context.cache)
    pools: dict[PruneSettings, list[ChannelGroup]] = defaultdict(list)
    for group in graph.groups:
        mildest = _mildest(group, draft, settings)
        if mildest is not None:
            pools[mildest].append(group)
    kept = [pair for chosen, groups in pools.items() for pair in _choose_filters(draft, groups, chosen, context)]
    for edit in slices_of(kept):
        draft.slice(edit)
    total = sum(group.size for group, _ in kept)
    removed = total - sum(int(keep.sum()) for _, keep in kept)
    if total == 0:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in graph.refused.items())
        draft.notes.append(f"No filters could be removed ({reasons or 'no group of channels is selected'}).")
    else:
        draft.notes.append(f"{removed:,} of {total:,} prunable filters removed ({removed / total:.0%}).")


def _mildest(group: ChannelGroup, draft: Draft, settings: Mapping[str, PruneSettings]) -> PruneSettings | None:
    """Return the settings for coupled layers: those of the lowest ratio; None when one of them is left out."""
    producers = [member.layer for member in group.producers if member.layer in draft.layers]
    if any(layer not in settings for layer in producers):
        return None
    return min((settings[layer] for layer in producers), key=lambda item: item.ratio, default=None)


def _choose_filters(
    draft: Draft, groups: list[ChannelGroup], settings: PruneSettings, context: Context
) -> list[tuple[ChannelGroup, Tensor]]:
    scores = [_filter_scores(draft, group, settings, context) for group in groups]
    if settings.threshold is not None:
        wanted = [int((score > settings.threshold).sum()) for score in scores]
    elif settings.scope == "layer":
        wanted = [group.size - round(settings.ratio * group.size) for group in groups]
    else:
        # layers differ in scale, so they are ranked by norm relative to their own mean
        relative = [score / score.mean().clamp_min(1e-12) for score in scores]
        ranked = torch.cat(relative).sort().values
        count = round(settings.ratio * len(ranked))
        limit = float(ranked[count - 1]) if count else -1.0
        wanted = [int((score > limit).sum()) for score in relative]
    kept = []
    for group, score, want in zip(groups, scores, wanted, strict=True):
        keep = torch.zeros(group.size, dtype=torch.bool)
        keep[score.topk(_snap(want, group.size, settings.multiple)).indices] = True
        kept.append((group, keep))
    return kept


def _filter_scores(draft: Draft, group: ChannelGroup, settings: PruneSettings, context: Context) -> Tensor:
    """Return the mean norm of each channel's filters over the group's layers, ``(size,)``."""
    weights = [
        (draft.layers[member.layer].weight, member) for member in group.producers if member.layer in draft.layers
    ]
    key = ("filter norms", settings.norm, *(draft.version(weight) for weight, _ in weights))

    def compute() -> Tensor:
        order = 1 if settings.norm == "l1" else 2
        total = torch.zeros(group.size)
        for weight, member in weights:
            axis = draft.output_axis(member.layer)
            filters = draft.tensors[weight].movedim(axis, 0).flatten(1)
            channel = torch.tensor(member.channel)
            own = channel >= 0
            total.index_add_(0, channel[own], filters.norm(order, dim=1)[own])
        return total / len(weights)

    return context.cache.get(key, compute)


def _snap(want: int, size: int, multiple: int) -> int:
    """Return the allowed count nearest to ``want``: a multiple, or all ``size``; never none."""
    allowed = [*range(multiple, size, multiple), size]
    nearest: int = min(allowed, key=lambda count: (abs(count - want), count))
    return nearest
