"""Smoothing: move what is hard to quantize from the inputs of a Linear layer into its weights.

A few channels that reach far make one grid for all inputs coarse. Each channel is divided by
``max |input| ** strength / max |weight| ** (1 - strength)`` where it is made, in the layer before, and the
columns that read it are multiplied by as much (Xiao et al. 2023, "SmoothQuant: Accurate and Efficient
Post-Training Quantization for Large Language Models", equation 4).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from workbench.calls import entering
from workbench.errors import WorkbenchError
from workbench.models.chains import Pair, columns_of
from workbench.run.moments import BATCH, prepare

from .base import Cost, Settings, Technique
from .context import Context
from .draft import Draft
from .equalize import move_factors, pairs_of, refuse_quantized, tensors_of


class SmoothSettings(Settings):
    """Settings of ``smooth``."""

    strength: float = Field(
        0.5,
        ge=0,
        le=1,
        description="What is evened out: 1 the inputs, at the weights' cost, 0 the weights alone.",
    )
    images: int = Field(256, ge=16, le=100_000, description="Calibration images whose inputs are looked at, at most.")


def apply(draft: Draft, settings: Mapping[str, SmoothSettings], context: Context) -> None:
    """Smooth the inputs of the Linear layers in ``settings`` whose inputs one other layer makes."""
    if not settings:
        return
    if context.calibration is None or context.normalization is None:
        raise WorkbenchError("Smoothing needs calibration data: give the dataset as well as the model.")
    chosen = next(iter(settings.values()))
    linear = [name for name in settings if isinstance(draft.original.get_submodule(name), nn.Linear)]
    pairs = [pair for pair in pairs_of(draft, context) if pair.second in linear]
    if not pairs:
        draft.notes.append("Nothing to smooth: no Linear layer's inputs come from one layer by a ReLU or less alone.")
        return
    refuse_quantized(draft, pairs, "smooth")
    key = ("smoothed", draft.state, chosen, tuple(settings), context.calibration.hash)
    changed = context.cache.get(key, partial(_smooth, draft, pairs, chosen, context))
    for name, value in changed.items():
        draft.rewrite(name, value, f"smooth {key}")


def _smooth(draft: Draft, pairs: list[Pair], settings: SmoothSettings, context: Context) -> dict[str, Tensor]:
    """Return the changed tensors."""
    reaches = _reaches(draft, pairs, settings.images, context)
    before = tensors_of(draft, pairs)
    present = dict(before)
    for pair in pairs:
        columns = columns_of(present[f"{pair.second}.weight"], pair).abs().amax(1)
        reach = reaches[pair.second].view(-1, pair.repeat).amax(1)
        usable = (reach > 0) & (columns > 0) & reach.isfinite() & columns.isfinite()
        factors = reach**settings.strength / columns ** (1 - settings.strength)
        move_factors(present, pair, torch.where(usable, factors, torch.ones_like(factors)))
    return {name: value for name, value in present.items() if value is not before[name]}


def _reaches(draft: Draft, pairs: list[Pair], count: int, context: Context) -> dict[str, Tensor]:
    """Return the largest magnitude of each input of the second layers, ``(in_features,)``."""
    assert context.normalization is not None
    images = context.mixed_images(count)
    module = prepare(draft.build(), images, context.normalization)
    found: dict[str, Tensor] = {}

    def see(name: str, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        reach = entering(layer, args, kwargs)[0].abs().flatten(0, -2).amax(0)
        found[name] = torch.maximum(found[name], reach) if name in found else reach

    for pair in pairs:
        module.get_submodule(pair.second).register_forward_pre_hook(partial(see, pair.second), with_kwargs=True)
    with torch.no_grad():
        for batch in images.split(BATCH):
            context.check()
            module(context.normalization(batch))
    return found


def _cost(settings: SmoothSettings) -> Cost:
    return Cost.CALIBRATED


SMOOTH = Technique(
    name="smooth",
    summary="Even out the inputs of Linear layers at the cost of their weights, before both are quantized.",
    source="Xiao et al. 2023",
    url="https://arxiv.org/abs/2211.10438",
    settings=SmoothSettings,
    apply=apply,
    cost=_cost,
    examples=("- smooth: {strength: 0.5}\n- quantize: {bits: 8, activations: {bits: 8}}",),
)
