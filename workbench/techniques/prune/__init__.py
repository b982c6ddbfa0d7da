"""Pruning: zero or remove what matters least, by one of several criteria and in units of several sizes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from ..base import Dial, Technique
from ..draft import Context, Draft
from . import magnitude
from .evidence import gather
from .filters import prune_filters
from .masks import prune_units
from .settings import PruneSettings, cost

__all__ = ["PRUNE", "PruneSettings"]


def apply(draft: Draft, settings: Mapping[str, PruneSettings], context: Context) -> None:
    """Prune each layer by its settings; layers that share theirs share one global ranking."""
    evidence = gather(draft, settings, context)
    pools: dict[PruneSettings, list[str]] = defaultdict(list)
    for name, chosen in settings.items():
        pools[chosen].append(name)
    for chosen, names in pools.items():
        if chosen.granularity == "filter":
            continue
        if magnitude.suits(chosen):
            magnitude.prune_smallest(draft, names, chosen, context)
        else:
            prune_units(draft, names, chosen, evidence, context)
    filters = {name: chosen for name, chosen in settings.items() if chosen.granularity == "filter"}
    if filters:
        prune_filters(draft, filters, context)


PRUNE = Technique(
    name="prune",
    summary="Remove the weights or filters of smallest magnitude.",
    source="Han et al. 2015 (weights); Li et al. 2017 and Fang et al. 2023 (filters)",
    settings=PruneSettings,
    apply=apply,
    cost=cost,
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
