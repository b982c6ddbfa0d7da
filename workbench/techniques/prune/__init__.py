"""Pruning: zero or remove what matters least, by one of several criteria and in units of several sizes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from ..base import Dial, Technique
from ..context import Context
from ..draft import Draft
from . import magnitude
from .depth import prune_depth
from .evidence import gather
from .filters import prune_filters, prune_heads
from .masks import prune_units
from .patterns import prune_n_of_m
from .reconstruction import reconstruct
from .settings import PruneSettings, cost

__all__ = ["PRUNE", "PruneSettings"]


def apply(draft: Draft, settings: Mapping[str, PruneSettings], context: Context) -> None:
    """Prune each layer by its settings; layers that share theirs share one global ranking."""
    evidence = gather(draft, settings, context)
    pools: dict[PruneSettings, list[str]] = defaultdict(list)
    for name, chosen in settings.items():
        pools[chosen].append(name)
    for chosen, names in pools.items():
        if chosen.removes or chosen.criterion == "obs":
            continue
        if magnitude.suits(chosen):
            magnitude.prune_smallest(draft, names, chosen, context)
        elif chosen.granularity == "n:m":
            prune_n_of_m(draft, names, chosen, evidence, context)
        else:
            prune_units(draft, names, chosen, evidence, context)
    adjusted = {name: chosen for name, chosen in settings.items() if chosen.criterion == "obs"}
    if adjusted:
        reconstruct(draft, adjusted, context)
    for granularity, remove in (("layer", prune_depth), ("head", prune_heads), ("filter", prune_filters)):
        removed = {name: chosen for name, chosen in settings.items() if chosen.granularity == granularity}
        if removed:
            remove(draft, removed, evidence, context)


PRUNE = Technique(
    name="prune",
    summary="Zero or remove the weights, blocks, rows, kernels, filters, heads or layers that matter least.",
    source="Han et al. 2015 (weights); Mishra et al. 2021 (N:M); Molchanov et al. 2019 (Taylor); "
    "Sun et al. 2024 (Wanda); Frantar and Alistarh 2023 (OBS); Li et al. 2017 and Fang et al. 2023 (filters); "
    "Veit et al. 2016 (layers)",
    url="https://arxiv.org/abs/1506.02626",
    settings=PruneSettings,
    apply=apply,
    cost=cost,
    examples=(
        "- prune: {ratio: 0.5}",
        "- prune: {ratio: 0.3, scope: layer}",
        "- prune: {threshold: 0.01}",
        "- prune: {criterion: taylor, ratio: 0.5, floor: 0.05}",
        "- prune: {criterion: wanda, ratio: 0.5, scope: row}",
        '- prune: {granularity: "n:m", n: 2, m: 4}',
        "- prune: {criterion: obs, ratio: 0.6, images: 64}",
        "- prune: {granularity: block, block_rows: 4, block_columns: 1, ratio: 0.5, scope: layer}",
        "- prune: {granularity: filter, ratio: 0.5, scope: layer}",
        "- prune: {granularity: filter, criterion: fpgm, macs: 0.5}",
        "- prune: {granularity: head, ratio: 0.5, scope: layer}",
        "- prune: {granularity: layer, ratio: 0.3, images: 64}",
        "- prune: {granularity: filter, criterion: taylor, ratio: 0.3, floor: 0.25}",
    ),
    dial=Dial(
        "ratio",
        0.0,
        (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
        {"scope": "layer", "threshold": None, "macs": None},
        percent=True,
    ),
)
