"""Removing whole filters, with all the channels that must go with them.

Channels that must go together are found by the dependency graph of Fang et al. 2023, "DepGraph: Towards
Any Structural Pruning".
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from workbench.models.attention import trace_heads
from workbench.models.channels import OUTPUTS, ChannelGraph, ChannelGroup, slices_of
from workbench.models.edits import QuantizeInput

from ..context import Context
from ..draft import Draft
from .evidence import Evidence
from .filter_criteria import RELATIVE, filter_importance
from .filter_macs import share_of_macs
from .masks import tell_left
from .settings import PruneSettings

#: Groups with what each channel matters.
Pool = Sequence[tuple[ChannelGroup, Tensor]]


def prune_filters(draft: Draft, settings: Mapping[str, PruneSettings], evidence: Evidence, context: Context) -> None:
    """Remove filters of the layers that ``settings`` names; coupled layers follow the mildest of theirs."""
    _remove(draft, draft.channels(context), settings, evidence, context, "filters")


def prune_heads(draft: Draft, settings: Mapping[str, PruneSettings], evidence: Evidence, context: Context) -> None:
    """Remove attention heads, at least one of each attention stays.

    Michel, Levy and Neubig 2019, "Are Sixteen Heads Really Better than One?".
    """
    structure = tuple(edit for edit in draft.edits if not isinstance(edit, QuantizeInput))
    # the version of no tensor is the model's own hash
    key = ("heads", draft.version(""), structure)
    graph = context.cache.get(key, lambda: trace_heads(draft.build(structure), draft.image_shape))
    single = {name: chosen.model_copy(update={"multiple": 1}) for name, chosen in settings.items()}
    _remove(draft, graph, single, evidence, context, "attention heads")


def _remove(
    draft: Draft,
    graph: ChannelGraph,
    settings: Mapping[str, PruneSettings],
    evidence: Evidence,
    context: Context,
    what: str,
) -> None:
    pools: dict[PruneSettings, list[tuple[ChannelGroup, Tensor]]] = defaultdict(list)
    left: list[str] = []
    for group in graph.groups:
        mildest = _mildest(group, draft, settings)
        if mildest is None:
            continue
        scores = filter_importance(draft, group, mildest, evidence, context)
        if scores is None:
            left.append(group.name)
        else:
            pools[mildest].append((group, scores))
    if left:
        tell_left(draft, left, "the criterion finds nothing of theirs to judge by")
    kept = []
    for chosen, pool in pools.items():
        names = [name for name, one in settings.items() if one == chosen]
        kept += _choose(draft, pool, chosen, names)
    for edit in slices_of(kept):
        draft.slice(edit)
    total = sum(group.size for group, _ in kept)
    removed = total - sum(int(keep.sum()) for _, keep in kept)
    refused = {name: why for name, why in graph.refused.items() if name in settings or name not in draft.layers}
    draft.notes += _tell(what, removed, total, refused)


_NOTHING = {
    "filters": "no group of channels is selected",
    "attention heads": "no attention is selected",
}
#: Reasons that one note gives at most.
_REASONS = 3


def _tell(what: str, removed: int, total: int, refused: Mapping[str, str]) -> Iterator[str]:
    """Yield what was removed, and why the rest could not be."""
    if total == 0:
        yield f"No {what} could be removed ({_reasons(refused) or _NOTHING[what]})."
        return
    yield f"{removed:,} of {total:,} prunable {what} removed ({removed / total:.0%})."
    staying = {name: why for name, why in refused.items() if why != OUTPUTS}
    if staying:
        yield f"{_count(len(staying))} all {what} ({_reasons(staying)})."


def _count(layers: int) -> str:
    return "One layer keeps" if layers == 1 else f"{layers:,} layers keep"


def _reasons(refused: Mapping[str, str]) -> str:
    told = [f"{name}: {why}" for name, why in refused.items()]
    return "; ".join(told[:_REASONS]) + ("; …" if len(told) > _REASONS else "")


def _mildest(group: ChannelGroup, draft: Draft, settings: Mapping[str, PruneSettings]) -> PruneSettings | None:
    """Return the settings for coupled layers: those of the lowest ratio; None when one of them is left out."""
    producers = [member.layer for member in group.producers if member.layer in draft.layers]
    if any(layer not in settings for layer in producers):
        return None
    return min((settings[layer] for layer in producers), key=lambda item: item.ratio, default=None)


def _choose(
    draft: Draft, pool: Pool, settings: PruneSettings, names: Sequence[str]
) -> list[tuple[ChannelGroup, Tensor]]:
    """Return which channels of each group stay (bool, ``(size,)``)."""
    if settings.threshold is not None:
        wanted = [int((scores > settings.threshold).sum()) for _, scores in pool]
    else:
        count = _by_layer(pool) if settings.scope == "layer" else _by_all(pool, settings)
        ratio = settings.ratio
        if settings.macs is not None:
            ratio = _ratio_for_macs(draft, pool, settings, settings.macs, names, count)
        wanted = count(ratio)
    kept = []
    for (group, scores), want in zip(pool, wanted, strict=True):
        keep = torch.zeros(group.size, dtype=torch.bool)
        keep[scores.topk(_allowed(group, want, settings)).indices] = True
        kept.append((group, keep))
    return kept


def _by_layer(pool: Pool) -> Callable[[float], list[int]]:
    return lambda ratio: [group.size - round(ratio * group.size) for group, _ in pool]


def _by_all(pool: Pool, settings: PruneSettings) -> Callable[[float], list[int]]:
    """Return ratio → how many channels each group keeps when all are ranked together."""
    ranked = [scores for _, scores in pool]
    if settings.criterion in RELATIVE:
        ranked = [scores / scores.mean().clamp_min(1e-12) for scores in ranked]
    owners = torch.arange(len(pool)).repeat_interleave(torch.tensor([group.size for group, _ in pool]))
    owners = owners[torch.cat(ranked).argsort(stable=True)]

    def count(ratio: float) -> list[int]:
        staying = owners[round(ratio * len(owners)) :]
        return [int(found) for found in torch.bincount(staying, minlength=len(pool))]

    return count


def _ratio_for_macs(
    draft: Draft,
    pool: Pool,
    settings: PruneSettings,
    share: float,
    names: Sequence[str],
    count: Callable[[float], list[int]],
) -> float:
    """Return the lowest ratio (to 1/1024) at which at most ``share`` of the MACs of ``names`` is left."""

    def left(step: int) -> float:
        kept = [
            (group, _allowed(group, want, settings)) for (group, _), want in zip(pool, count(step / 1024), strict=True)
        ]
        return share_of_macs(draft, kept, names)

    low, high = 0, 1024
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if left(middle) <= share else (middle + 1, high)
    if left(low) > share:
        draft.notes.append(f"{left(low):.0%} of the MACs are left and not {share:.0%}: no more filters can go.")
    return low / 1024


def _allowed(group: ChannelGroup, want: int, settings: PruneSettings) -> int:
    """Return the allowed count nearest to ``want``: so that filters are a multiple, or all; never none."""
    multiple = settings.multiple // math.gcd(settings.multiple, max(1, group.fold))
    least = math.ceil(settings.floor * group.size - 1e-9) if settings.scope == "global" else 1
    counts = [*range(multiple, group.size, multiple), group.size]
    allowed = [number for number in counts if number >= least]
    nearest: int = min(allowed, key=lambda number: (abs(number - want), number))
    return nearest
