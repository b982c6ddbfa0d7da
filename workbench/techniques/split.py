"""Outlier channel splitting: two halves of a channel instead of one that reaches far.

One large weight makes a layer's grid coarse for all others. The input channel that reads it is given twice, by
giving the output of the layer before twice, and both columns have half of the weights: the model computes the
same, and the range shrinks (Zhao et al. 2019, "Improving Neural Network Quantization without Retraining using
Outlier Channel Splitting"). The copies are real channels: weights, MACs and time grow by their share.

Two halves round to twice the error of one. Told the bits of the grid that will follow, the halves are set half a
step apart, ``(w - step / 2) / 2`` and ``(w + step / 2) / 2``, whose roundings add up to that of ``w`` (section 3.3).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor

from workbench.models.chains import Pair, columns_of, scaled_columns
from workbench.models.edits import Slice

from .base import Cost, Settings, Technique
from .context import Context
from .draft import Draft
from .equalize import pairs_of, refuse_quantized


class SplitSettings(Settings):
    """Settings of ``split``."""

    ratio: float = Field(0.05, ge=0, le=1, description="Input channels to add to a layer, as a share; at least one.")
    bits: int | None = Field(
        None, ge=1, le=16, description="Bits of the grid (per tensor) to follow, so that both halves round together."
    )


@dataclass(frozen=True)
class Splitting:
    """The channel that each place is a copy of, ``(places,)``, its share of the weights, and its steps off that."""

    keep: tuple[int, ...]
    share: Tensor
    steps: Tensor


def apply(draft: Draft, settings: Mapping[str, SplitSettings], context: Context) -> None:
    """Split the input channels of the layers in ``settings`` that read one other layer alone; the others are told.

    Raises ``WorkbenchError`` where they are quantized already.
    """
    chosen = {name: one for name, one in settings.items() if one.ratio > 0}
    if not chosen:
        return
    pairs = [pair for pair in pairs_of(draft, context) if pair.second in chosen and _can_double(draft, pair)]
    if not pairs:
        draft.notes.append("Nothing to split: no layer reads the channels of one other layer alone.")
        return
    refuse_quantized(draft, pairs, "split")
    for pair in pairs:
        _split(draft, pair, chosen[pair.second])
    left = [name for name in chosen if name not in {pair.second for pair in pairs}]
    if left:
        shown = ", ".join(left[:3]) + (", …" if len(left) > 3 else "")
        draft.notes.append(f"Not split, since they read more or less than one other layer's channels: {shown}.")


def _can_double(draft: Draft, pair: Pair) -> bool:
    """Whether an output of the first layer can be given twice, and the second adds up what it reads."""
    return not pair.depthwise and getattr(draft.module(pair.first), "groups", 1) == 1


def _split(draft: Draft, pair: Pair, settings: SplitSettings) -> None:
    name = f"{pair.second}.weight"
    found = plan_splits(columns_of(draft.tensors[name], pair), settings)
    draft.slice(Slice(pair.first, "out", found.keep))
    if pair.norm is not None:
        draft.slice(Slice(pair.norm, "out", found.keep))
    columns = tuple(place * pair.repeat + part for place in found.keep for part in range(pair.repeat))
    draft.slice(Slice(pair.second, "in", columns))
    whole = draft.tensors[name]
    apart = scaled_columns((whole != 0).to(whole.dtype), found.steps, pair)  # pruned weights stay zero
    draft.rewrite(name, scaled_columns(whole, found.share, pair) + apart, f"split {settings!r}")


def plan_splits(columns: Tensor, settings: SplitSettings) -> Splitting:
    """Return which channels of ``columns`` ``(channels, weights)`` to split: again and again the one that reaches most.

    ``steps`` are what a copy's weights other than zero are raised by.
    """
    reach, count = columns.abs().amax(1).tolist(), math.ceil(settings.ratio * len(columns))
    keep, share, apart = list(range(len(columns))), [1.0] * len(columns), [0.0] * len(columns)
    for _ in range(count):
        place = max(range(len(keep)), key=lambda index: reach[index])
        reach[place] /= 2
        share[place] /= 2
        apart[place] = apart[place] / 2 - 0.25
        keep.append(keep[place])
        share.append(share[place])
        reach.append(reach[place])
        apart.append(apart[place] + 0.5)
    split = columns[keep] * torch.tensor(share)[:, None]
    step = 0.0
    if settings.bits is not None:
        step = float(split.max().clamp_min(0) - split.min().clamp_max(0)) / (2**settings.bits - 1)
    return Splitting(tuple(keep), torch.tensor(share), step * torch.tensor(apart))


def _cost(settings: SplitSettings) -> Cost:
    return Cost.LIVE


SPLIT = Technique(
    name="split",
    summary="Give channels with outlying weights twice, with half of the weights each, so that grids get finer.",
    source="Zhao et al. 2019",
    url="https://arxiv.org/abs/1901.09504",
    settings=SplitSettings,
    apply=apply,
    cost=_cost,
    examples=("- split: {ratio: 0.1, bits: 4}\n- quantize: {bits: 4, per: tensor}",),
)
