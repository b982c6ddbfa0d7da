"""Learned rounding, layer after layer: each makes up for what the layers before it have changed.

For a layer with weights W whose inputs are x in the model as the step finds it and y behind the layers
quantized so far, the weights that come nearest to the old outputs are W E[x yᵀ] E[y yᵀ]⁻¹; these are put on
the grid. Where the layer has a bias, moments are about the mean, and the bias takes up the rest.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.run.moments import Moments, has_columns, input_moments, prepare
from workbench.techniques.context import Context
from workbench.techniques.draft import Draft
from workbench.techniques.storage import Codes

from .formats import fit_range
from .grids import grid
from .rounding import damped, round_by_elimination, round_by_learning, sound
from .rows import Slicing
from .settings import QuantizeSettings

#: What rounding leaves of a difference of second moments, as a share of their mean.
NOISE = 1e-5


def reconstruct(
    draft: Draft, layers: Mapping[str, tuple[QuantizeSettings, Slicing]], context: Context
) -> dict[str, tuple[Codes, Tensor | None]]:
    """Return layer → its weight's storage and its new bias (None where it has none).

    Layers that are never called, or aren't a matrix product over their inputs, are left out. Raises
    ``WorkbenchError`` without calibration data.
    """
    if context.calibration is None or context.normalization is None:
        method = next(iter(layers.values()))[0].rounding
        raise WorkbenchError(f"Rounding by {method} needs calibration data: give the dataset as well as the model.")
    key = ("reconstructed", draft.state, tuple(layers.items()), context.calibration.hash)
    with torch.inference_mode(False):  # moments made in it could not be learned from
        return context.cache.get(key, lambda: _reconstruct(draft, layers, context))


def _reconstruct(
    draft: Draft, layers: Mapping[str, tuple[QuantizeSettings, Slicing]], context: Context
) -> dict[str, tuple[Codes, Tensor | None]]:
    assert context.normalization is not None
    few = context.mixed_images(2)
    reference, changed = (prepare(draft.build(), few, context.normalization) for _ in range(2))
    found: dict[str, tuple[Codes, Tensor | None]] = {}
    for name in draft.layers:  # in the order in which they are called
        module = changed.get_submodule(name)
        if name not in layers or not has_columns(module):
            continue
        settings, slicing = layers[name]
        images = context.mixed_images(settings.images)
        moments = input_moments(reference, changed, name, images, context.normalization, context.check)
        if moments is None:
            continue
        weight = draft.tensors[draft.layers[name].weight]
        bias: Tensor | None = getattr(module, "bias", None)
        codes, shift = _round_layer(weight, moments, bias is not None, settings, slicing, context)
        new_bias = None if bias is None else bias.detach() + shift
        with torch.no_grad():
            module.get_parameter("weight").copy_(codes.decode())
            if bias is not None and new_bias is not None:
                bias.copy_(new_bias)
        found[name] = codes, new_bias
    return found


def _round_layer(
    weight: Tensor,
    moments: Moments,
    has_bias: bool,
    settings: QuantizeSettings,
    slicing: Slicing,
    context: Context,
) -> tuple[Codes, Tensor]:
    """Return the layer's codes, and what its bias must rise by, ``(outputs,)``."""
    parts = zip(weight.flatten(1).chunk(len(moments.second)), *vars(moments).values(), strict=True)
    targets, seconds = [], []
    for rows, second, cross, before, after in parts:
        if has_bias:
            # of inputs that hardly vary, what float32 leaves of the difference has no definite sign
            noise = NOISE * second.diagonal().mean() * torch.eye(len(second))
            second = second - torch.outer(after, after) + noise
            cross = cross - torch.outer(before, after)
        second, before_raising = sound(second), second
        cross = cross + (second - before_raising)  # towards the weights as they are
        targets.append(_target(rows, second, cross))
        seconds.append(second)
    target = torch.cat(targets).view_as(weight)
    pruned = weight == 0
    frozen = pruned if bool(pruned.any()) else None
    if frozen is not None:
        target = target.masked_fill(frozen, 0)
    low, high = fit_range(slicing.rows(target.numpy()), settings)
    scale, zero = grid(torch.from_numpy(low), torch.from_numpy(high), settings.bits, settings.scheme)
    template = Codes(
        torch.zeros(weight.shape, dtype=torch.uint8), scale, zero, slicing.axis, settings.bits, slicing.group
    )
    codes = _codes(target, seconds, template, frozen, settings, context)
    stored = Codes(codes.view_as(weight), scale, zero, slicing.axis, settings.bits, slicing.group)
    decoded = stored.decode().flatten(1).chunk(len(seconds))
    means = zip(weight.flatten(1).chunk(len(seconds)), decoded, moments.mean_reference, moments.mean, strict=True)
    shift = torch.cat([old @ before - new @ after for old, new, before, after in means])
    return stored, shift


def _target(rows: Tensor, second: Tensor, cross: Tensor) -> Tensor:
    """Return the weights whose outputs on the changed inputs come nearest to the old outputs."""
    ridge = damped(second) - second
    solution: Tensor = torch.linalg.solve(damped(second), (rows @ (cross + ridge)).T)
    return solution.T


def _codes(
    target: Tensor,
    seconds: list[Tensor],
    template: Codes,
    frozen: Tensor | None,
    settings: QuantizeSettings,
    context: Context,
) -> Tensor:
    scale, zero = (
        template.spread(values).expand(target.shape).flatten(1) for values in (template.scale, template.zero_point)
    )
    count = len(seconds)
    held = [None] * count if frozen is None else frozen.flatten(1).chunk(count)
    parts = zip(target.flatten(1).chunk(count), seconds, scale.chunk(count), zero.chunk(count), held, strict=True)
    found = []
    for rows, second, scales, zeros, still in parts:
        context.check()
        if settings.rounding == "gptq":
            found.append(round_by_elimination(rows, second, scales, zeros, settings.bits, still))
        else:
            iterations, bits = settings.iterations, settings.bits
            found.append(round_by_learning(rows, second, scales, zeros, bits, still, iterations, context.check))
    return torch.from_numpy(torch.cat(found).numpy().astype(np.uint8))
