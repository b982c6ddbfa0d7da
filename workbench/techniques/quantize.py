"""Uniform quantization of weights and, calibrated on data, of what enters each layer.

The grid is that of Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", with zero exactly on it; scales as PyTorch's min-max observers
choose them, so that ``torch.fake_quantize_*`` gives the same values.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.models.edits import QuantizeInput
from workbench.run.observe import observe_inputs

from .base import Cost, Dial, Settings, Technique
from .draft import Context, Draft
from .storage import Cast, Codes

#: The bit-width that leaves a layer's weights in fp32.
AS_IT_IS = 32


class ActivationSettings(Settings):
    """How the inputs of a layer are quantized."""

    bits: int = Field(8, ge=4, le=8, description="Bits of what enters each layer.")
    observer: Literal["minmax", "percentile"] = Field(
        "minmax", description="Take the range seen on the calibration split, or clip its tails."
    )
    percentile: float = Field(
        99.99, gt=50, le=100, description="Share of the values inside the range, in percent (percentile observer)."
    )


class QuantizeSettings(Settings):
    """Settings of ``quantize``."""

    bits: int = Field(
        8, ge=1, le=32, description="Bits of a weight: 1 to 8 as integers, 16 as a float, 32 to leave it as it is."
    )
    format: Literal["integer", "fp16", "bf16"] | None = Field(
        None, description="Integers on a uniform grid (1 to 8 bits), or a 16-bit float (fp16 unless said)."
    )
    scheme: Literal["affine", "symmetric"] = Field(
        "affine", description="Fit the grid to minimum and maximum, or centre it on zero."
    )
    per: Literal["channel", "tensor"] = Field("channel", description="One scale per output channel, or one per layer.")
    activations: ActivationSettings | None = Field(
        None, description="Quantize what enters each layer too; needs calibration data."
    )

    @model_validator(mode="before")
    @classmethod
    def _sixteen_bits_are_floats(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        bits, form = data.get("bits"), data.get("format")
        if form in ("fp16", "bf16"):
            if bits not in (None, 16):
                raise ValueError(f"format {form} has 16 bits, not {bits}; leave bits out or use format integer")
            # fp16 is what 16 bits mean anyway, so that both ways to say it are one setting
            said = {key: value for key, value in data.items() if key != "format" or value != "fp16"}
            return {**said, "bits": 16}
        if form == "integer" and bits in (16, AS_IT_IS):
            raise ValueError(f"integers have 1 to 8 bits, not {bits}; leave format out or use fp16 or bf16")
        if isinstance(bits, int) and bits > 8 and bits not in (16, AS_IT_IS):
            raise ValueError(f"bits is {bits}, but it should be 1 to 8 (integers), 16 (fp16, bf16) or 32 (as it is)")
        return data

    @property
    def kind(self) -> Literal["integer", "fp16", "bf16"]:
        """The format chosen, or the one that follows from the bits."""
        return self.format or ("fp16" if self.bits == 16 else "integer")


def apply(draft: Draft, settings: Mapping[str, QuantizeSettings], context: Context) -> None:
    """Quantize each layer's weight, then calibrate and quantize the inputs where that is asked."""
    pools: dict[QuantizeSettings, dict[str, int]] = defaultdict(dict)
    for name, chosen in settings.items():
        if chosen.bits != AS_IT_IS:
            pools[chosen].update(dict.fromkeys(draft.layers[name].weights, draft.output_axis(name)))
    for chosen, weights in pools.items():
        how = chosen.model_dump_json(exclude={"activations"})
        if chosen.kind == "integer":
            for weight, (codes, decoded) in quantize_weights(draft, weights, chosen, context).items():
                draft.store(weight, codes, how, decoded)
        else:
            for weight in weights:
                dtype = torch.float16 if chosen.kind == "fp16" else torch.bfloat16
                draft.store(weight, Cast.of(draft.tensors[weight], dtype), how)
    with_inputs = {name: chosen.activations for name, chosen in settings.items() if chosen.activations}
    if with_inputs:
        _quantize_inputs(draft, with_inputs, context)


def quantize_weights(
    draft: Draft, weights: Mapping[str, int], settings: QuantizeSettings, context: Context
) -> dict[str, tuple[Codes, Tensor]]:
    """Return ``weights`` (name → output axis) on their grids, rounding half to even, with what they decode to.

    The grids are worked out for all of them at once: a deep model has hundreds of small ones.
    """
    axes = {name: axis if settings.per == "channel" else None for name, axis in weights.items()}
    ranges = [
        context.cache.get(("range", draft.version(name), settings.per), partial(_range, draft.tensors[name], axis))
        for name, axis in axes.items()
    ]
    low, high = (torch.from_numpy(np.concatenate(bounds)) for bounds in zip(*ranges, strict=True))
    scales, zero_points = grid(low, high, settings.bits, settings.scheme)
    sizes = [len(bounds) for bounds, _ in ranges]
    grids = zip(axes.items(), scales.split(sizes), zero_points.split(sizes), strict=True)
    return {
        name: _on_grid(draft.tensors[name], scale, zero_point, axis, settings.bits)
        for (name, axis), scale, zero_point in grids
    }


def _on_grid(weight: Tensor, scale: Tensor, zero_point: Tensor, axis: int | None, bits: int) -> tuple[Codes, Tensor]:
    # In NumPy, whose calls cost a fraction of PyTorch's on tensors this small, and in one array.
    shape = [-1 if dimension == axis else 1 for dimension in range(weight.ndim)]
    zeros = zero_point.view(shape).numpy()
    values = weight.numpy() * scale.reciprocal().view(shape).numpy()
    np.rint(values, out=values)
    values += zeros
    np.clip(values, 0, 2**bits - 1, out=values)
    codes = Codes(torch.from_numpy(values.astype(np.uint8)), scale, zero_point, axis, bits)
    values -= zeros
    values *= scale.view(shape).numpy()
    return codes, torch.from_numpy(values)


def grid(low: Tensor, high: Tensor, bits: int, scheme: str) -> tuple[Tensor, Tensor]:
    """Return scale and zero point (both float32) of unsigned ``bits``-bit codes for ranges ``low``..``high``.

    Symmetric codes are centred: their zero point is ``2**(bits - 1)``.
    """
    levels = 2**bits - 1
    low, high = low.clamp_max(0), high.clamp_min(0)
    tiny = torch.finfo(torch.float32).eps
    if scheme == "symmetric":
        scale = (torch.maximum(-low, high) / (levels / 2)).clamp_min(tiny)
        return scale, torch.full_like(scale, float(2 ** (bits - 1)))
    scale = ((high - low) / levels).clamp_min(tiny)
    return scale, (-low / scale).round_().clamp_(0, levels)


def _range(weight: Tensor, axis: int | None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    values = weight.numpy()
    flat = values.reshape(1, -1) if axis is None else np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
    return flat.min(axis=1), flat.max(axis=1)


def _quantize_inputs(draft: Draft, settings: Mapping[str, ActivationSettings], context: Context) -> None:
    if context.calibration is None or context.normalization is None:
        raise WorkbenchError("Quantizing activations needs calibration data: give the dataset as well as the model.")
    images, normalize = context.calibration.images, context.normalization
    percentiles = {
        name: chosen.percentile if chosen.observer == "percentile" else 100.0 for name, chosen in settings.items()
    }
    key = ("input ranges", draft.state, tuple(sorted(percentiles.items())), context.calibration.hash)
    ranges = context.cache.get(
        key, lambda: observe_inputs(draft.build(), images, normalize, percentiles, context.check)
    )
    for name, chosen in settings.items():
        if name not in ranges:
            continue
        low, high = (torch.tensor([bound]) for bound in ranges[name])
        scale, zero_point = grid(low, high, chosen.bits, "affine")
        draft.quantize_input(QuantizeInput(name, chosen.bits, float(scale), int(zero_point)))


def _cost(settings: QuantizeSettings) -> Cost:
    return Cost.CALIBRATED if settings.activations else Cost.LIVE


QUANTIZE = Technique(
    name="quantize",
    summary="Store weights in fewer bits on a uniform grid; activations too where asked.",
    source="Jacob et al. 2018; Krishnamoorthi 2018",
    settings=QuantizeSettings,
    apply=apply,
    cost=_cost,
    examples=(
        "- quantize: {bits: 8}",
        "- quantize: {bits: 4, scheme: symmetric, per: tensor}",
        "- quantize: {format: fp16}",
        "- quantize: {bits: 8, scheme: symmetric, activations: {bits: 8}}",
    ),
    dial=Dial("bits", AS_IT_IS, (8, 7, 6, 5, 4, 3, 2, 1), {"format": None}),
)
