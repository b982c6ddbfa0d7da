"""Depth pruning: removing whole layers and residual blocks, ranked by what the model loses without them.

Drop: how much the loss on calibration images grows when the block alone is passed by, as in Veit et al. 2016,
"Residual Networks Behave Like Ensembles of Relatively Shallow Networks". Taylor and Fisher: what the other
granularities sum over weights, summed over the block's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from workbench.errors import WorkbenchError
from workbench.models.depth import Block, Depth, trace_depth
from workbench.models.edits import QuantizeInput, apply_edits
from workbench.models.soundness import restored

from ..context import Context
from ..draft import Draft
from .criteria import chance
from .evidence import BATCH, Evidence, logits_of
from .settings import PruneSettings

#: Blocks that share their settings, and what each matters.
Pool = list[tuple[Block, float]]


def prune_depth(draft: Draft, settings: Mapping[str, PruneSettings], evidence: Evidence, context: Context) -> None:
    """Remove blocks all of whose layers ``settings`` names; the mildest of their settings counts."""
    depth = _trace(draft, context)
    pools: dict[PruneSettings, list[Block]] = defaultdict(list)
    for block in depth.blocks:
        if all(layer in settings for layer in block.layers):
            pools[min((settings[layer] for layer in block.layers), key=lambda item: item.ratio)].append(block)
    chosen: list[Block] = []
    for own, blocks in pools.items():
        names = [name for name, other in settings.items() if other == own]
        scores = _scores(draft, depth, blocks, own, evidence, context)
        chosen += _choose(draft, list(zip(blocks, scores, strict=True)), own, names)
    for edit in depth.edits(chosen):
        draft.remove(edit)
    _tell(draft, depth, sum(map(len, pools.values())), chosen)


def _trace(draft: Draft, context: Context) -> Depth:
    structure = tuple(edit for edit in draft.edits if not isinstance(edit, QuantizeInput))
    # the version of no tensor is the model's own hash
    key = ("depth", draft.version(""), structure)
    return context.cache.get(key, lambda: trace_depth(draft.build(structure), draft.image_shape, draft.layers))


def _tell(draft: Draft, depth: Depth, total: int, chosen: Sequence[Block]) -> None:
    reasons = "; ".join(f"{name}: {reason}" for name, reason in depth.refused.items())
    if total:
        names = ", ".join(block.name for block in chosen[:6]) + (", …" if len(chosen) > 6 else "")
        draft.notes.append(f"{len(chosen)} of {total} removable blocks removed{': ' if names else ''}{names}.")
    elif depth.blocks:
        draft.notes.append("No layers were removed: no block is selected with all of its layers.")
    else:
        draft.notes.append(f"No layers could be removed ({reasons or 'none gives the shape that it takes'}).")


def _scores(
    draft: Draft, depth: Depth, blocks: Sequence[Block], settings: PruneSettings, evidence: Evidence, context: Context
) -> list[float]:
    """Return what each block matters."""
    criterion = settings.criterion
    if criterion == "random":
        return [float(torch.rand(1, generator=chance(settings.seed, block.name))) for block in blocks]
    if criterion == "drop":
        found = _drops(draft, depth, settings.images, context)
        return [found[block.name] for block in blocks]
    return [_of_weights(draft, block, criterion, evidence) for block in blocks]


def _of_weights(draft: Draft, block: Block, criterion: str, evidence: Evidence) -> float:
    """Return the change of the loss that is expected when all weights of the block become zero."""
    total = 0.0
    for name in _present(draft, block):
        values = draft.tensors[name]
        if criterion == "taylor":
            total += float((values * evidence.gradients[name]).sum())
        else:
            total += float((values.square() * evidence.squares[name]).sum()) / 2
    return abs(total)


def _present(draft: Draft, block: Block) -> tuple[str, ...]:
    """Return the names of the block's weights that the layers list: those the criteria know."""
    known = {name for layer in block.layers for name in draft.layers[layer].weights}
    return tuple(name for name in block.weights if name in known)


def _drops(draft: Draft, depth: Depth, images: int, context: Context) -> dict[str, float]:
    """Return by how much the mean cross-entropy grows without each block, on so many calibration images."""
    if context.calibration is None or context.normalization is None:
        raise WorkbenchError("Pruning by drop needs calibration data: give the dataset as well as the model.")
    context.require_labels("Pruning by drop")
    count = min(len(context.calibration), images)

    def compute() -> dict[str, float]:
        module = draft.build()
        dense = _loss(module, count, context)
        found = {}
        for block in depth.blocks:
            with restored(module):
                apply_edits(module, depth.edits([block]))
                found[block.name] = _loss(module, count, context) - dense
        return found

    return context.cache.get(("drops", draft.state, context.calibration.hash, count), compute)


def _loss(module: nn.Module, count: int, context: Context) -> float:
    """Return the mean cross-entropy on ``count`` mixed calibration images."""
    assert context.normalization is not None
    images, labels = context.mixed(count)
    total = 0.0
    with torch.inference_mode():
        for start in range(0, count, BATCH):
            context.check()
            batch = labels[start : start + BATCH]
            logits = logits_of(module(context.normalization(images[start : start + BATCH])), batch)
            total += float(F.cross_entropy(logits, batch, reduction="sum"))
    return total / count


def _choose(draft: Draft, pool: Pool, settings: PruneSettings, names: Sequence[str]) -> list[Block]:
    """Return which blocks go, the least important first."""
    ranked = sorted(pool, key=lambda item: item[1])
    if settings.threshold is not None:
        return [block for block, score in ranked if score <= settings.threshold]
    if settings.macs is None:
        return [block for block, _ in ranked[: round(settings.ratio * len(ranked))]]
    left = {name: float(draft.layers[name].macs) for name in names}
    total = sum(left.values())
    chosen: list[Block] = []
    for block, _ in ranked:
        if sum(left.values()) <= settings.macs * total:
            return chosen
        chosen.append(block)
        for name in {*block.layers} & left.keys():
            left[name] -= draft.layers[name].macs * _part(draft, block, name)
    if sum(left.values()) > settings.macs * total:
        share = sum(left.values()) / total
        draft.notes.append(f"{share:.0%} of the MACs are left and not {settings.macs:.0%}: no more blocks can go.")
    return chosen


def _part(draft: Draft, block: Block, layer: str) -> float:
    """Return the share of a layer that goes with the block: all of it, but for stacked ones."""
    if block.level is None:
        return 1.0
    sizes = {name: draft.tensors[name].numel() for name in draft.layers[layer].weights}
    return sum(sizes[name] for name in block.weights) / sum(sizes.values())
