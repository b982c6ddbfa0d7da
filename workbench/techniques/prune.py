"""Magnitude pruning: set the smallest weights to zero, or remove the filters of smallest norm.

Weights: Han, Pool, Tran and Dally 2015, "Learning both Weights and Connections for Efficient Neural
Networks". Filters: Li et al. 2017, "Pruning Filters for Efficient ConvNets"; channels that must go
together are found by the dependency graph of Fang et al. 2023.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from workbench.models.channels import ChannelGroup

from .base import Cost, Dial, Settings, Technique
from .draft import Context, Draft
from .ranking import Ranking


class PruneSettings(Settings):
    """Settings of ``prune``."""

    criterion: Literal["magnitude"] = Field("magnitude", description="What a weight's importance is measured by.")
    granularity: Literal["weight", "filter"] = Field(
        "weight", description="Zero single weights (smaller file), or remove whole filters (also faster)."
    )
    scope: Literal["global", "layer"] = Field(
        "global", description="Rank all chosen layers together, or prune each to the ratio by itself."
    )
    ratio: float = Field(0.5, ge=0, lt=1, description="Share of the weights or filters to remove.")
    threshold: float | None = Field(
        None, ge=0, description="Remove what is at most this large instead: a magnitude, or a filter's norm."
    )
    norm: Literal["l1", "l2"] = Field("l1", description="Norm of a filter (filter granularity only).")
    multiple: int = Field(
        8, ge=1, le=64, description="Keep a multiple of so many filters, which kernels prefer (filter granularity)."
    )


def apply(draft: Draft, settings: Mapping[str, PruneSettings], context: Context) -> None:
    """Prune each layer by its settings; layers that share theirs share one global ranking."""
    pools: dict[PruneSettings, list[str]] = defaultdict(list)
    for name, chosen in settings.items():
        pools[chosen].append(name)
    for chosen, names in pools.items():
        if chosen.granularity == "weight":
            _prune_weights(draft, names, chosen, context)
    filters = {name: chosen for name, chosen in settings.items() if chosen.granularity == "filter"}
    if filters:
        _prune_filters(draft, filters, context)


def _prune_weights(draft: Draft, names: list[str], settings: PruneSettings, context: Context) -> None:
    pools = [names] if settings.scope == "global" else [[name] for name in names]
    for pool in pools:
        weights = list(dict.fromkeys(weight for name in pool for weight in draft.layers[name].weights))
        threshold, surplus = settings.threshold, 0
        if threshold is None:
            ranking = _ranked(draft, weights, context)
            count = round(settings.ratio * len(ranking))
            if count == 0:
                continue
            threshold, no_larger = ranking.smallest(count)
            surplus = no_larger - count if threshold else 0  # what is zero already may as well be pruned
        spared = _last_ties(draft, weights, threshold, surplus)
        how = f"prune {threshold!r}, {surplus} spared, of {' '.join(map(draft.version, weights))}"
        how = hashlib.sha256(how.encode()).hexdigest()
        for weight in weights:
            draft.zero_small(weight, threshold, how, spared.get(weight))
        for name in pool:
            draft.thresholds[name] = max(threshold, draft.thresholds.get(name, 0.0))


def _ranked(draft: Draft, weights: list[str], context: Context) -> Ranking:
    """Return the order of the magnitudes of ``weights`` together."""
    key = ("ranked", *map(draft.version, weights))
    return context.cache.get(
        key, lambda: Ranking(torch.cat([draft.tensors[weight].abs().flatten() for weight in weights]).numpy())
    )


def _last_ties(draft: Draft, weights: list[str], threshold: float, surplus: int) -> dict[str, Tensor]:
    """Return weight → flat places of the last ``surplus`` values whose magnitude is exactly the threshold."""
    spared: dict[str, Tensor] = {}
    for weight in reversed(weights):
        if surplus <= 0:
            break
        tied = (draft.tensors[weight].abs() == threshold).flatten().nonzero().flatten()[-surplus:]
        if len(tied):
            spared[weight] = tied
            surplus -= len(tied)
    return spared


def _prune_filters(draft: Draft, settings: Mapping[str, PruneSettings], context: Context) -> None:
    graph = draft.channels(context.cache)
    chosen = [(group, _mildest(group, draft, settings)) for group in graph.groups]
    pools: dict[PruneSettings, list[ChannelGroup]] = defaultdict(list)
    for group, group_settings in chosen:
        if group_settings is not None:
            pools[group_settings].append(group)
    removed = total = 0
    for group_settings, groups in pools.items():
        for group, keep in _choose_filters(draft, groups, group_settings, context):
            total += group.size
            removed += group.size - int(keep.sum())
            if not bool(keep.all()):
                for edit in group.slices(keep):
                    draft.slice(edit)
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
            total.index_add_(0, torch.tensor(member.channel), filters.norm(order, dim=1))
        return total / len(weights)

    return context.cache.get(key, compute)


def _snap(want: int, size: int, multiple: int) -> int:
    """Return the allowed count nearest to ``want``: a multiple, or all ``size``; never none."""
    allowed = [*range(multiple, size, multiple), size]
    nearest: int = min(allowed, key=lambda count: (abs(count - want), count))
    return nearest


def _cost(settings: PruneSettings) -> Cost:
    return Cost.LIVE


PRUNE = Technique(
    name="prune",
    summary="Remove the weights or filters of smallest magnitude.",
    source="Han et al. 2015 (weights); Li et al. 2017 and Fang et al. 2023 (filters)",
    settings=PruneSettings,
    apply=apply,
    cost=_cost,
    examples=(
        "- prune: {ratio: 0.5}",
        "- prune: {ratio: 0.3, scope: layer}",
        "- prune: {threshold: 0.01}",
        "- prune: {granularity: filter, ratio: 0.5, scope: layer}",
    ),
    dial=Dial(
        "ratio", 0.0, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9), {"scope": "layer", "threshold": None}, percent=True
    ),
)
