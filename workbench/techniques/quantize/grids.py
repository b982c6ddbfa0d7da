"""Uniform grids: their step and zero from a range, and weights rounded onto them.

The grid is that of Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", with zero exactly on it; scales as PyTorch's min-max observers
choose them, so that ``torch.fake_quantize_*`` gives the same values.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workbench.techniques.storage import Codes

from .rows import BLOCK, Floats, Slicing

Round = Callable[[Floats], Floats]

#: The smallest step of a grid.
EPSILON = np.float32(torch.finfo(torch.float32).eps)


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


def on_grid(
    weight: Tensor, scale: Tensor, zero_point: Tensor, slicing: Slicing, bits: int, rounded: Round | None = None
) -> tuple[Codes, Tensor]:
    """Return ``weight`` on the grid, half to even unless ``rounded`` says otherwise, and what it decodes to."""
    if slicing.group is None:
        beside = _beside(weight.ndim, slicing)
        scales, zeros = (values.view(beside).numpy() for values in (scale, zero_point))
        codes, decoded = _rounded(weight.numpy(), scales, zeros, bits, rounded)
    else:
        scales, zeros = scale.view(-1, 1).numpy(), zero_point.view(-1, 1).numpy()
        rows = _rounded(slicing.rows(weight.numpy()), scales, zeros, bits, rounded)
        codes, decoded = (slicing.weight(one, tuple(weight.shape)) for one in rows)
    stored = Codes(torch.from_numpy(codes), scale, zero_point, slicing.axis, bits, slicing.group)
    return stored, torch.from_numpy(decoded)


def on_grids(
    weights: Sequence[Tensor],
    scales: Sequence[Tensor],
    zero_points: Sequence[Tensor],
    slicings: Sequence[Slicing],
    bits: int,
) -> list[Codes]:
    """Return ``on_grid`` of each of ``weights``, whose slices are tensors or channels, without what it decodes to.

    Small ones of one shape are rounded in one stack: a deep model has dozens, and their calls take longer than
    their numbers.
    """
    alike: dict[tuple[torch.Size, Slicing], list[int]] = defaultdict(list)
    for place, (weight, slicing) in enumerate(zip(weights, slicings, strict=True)):
        alike[weight.shape, slicing].append(place)
    found: dict[int, Codes] = {}
    for (shape, slicing), places in alike.items():
        step = max(1, BLOCK // max(1, shape.numel()))
        for first in range(0, len(places), step):
            some = places[first : first + step]
            weight, scale, zero = (_stacked([each[place] for place in some]) for each in (weights, scales, zero_points))
            beside = (len(some), *_beside(len(shape), slicing))
            values = _codes(weight.numpy(), scale.view(beside).numpy(), zero.view(beside).numpy(), bits, None)
            for place, own in zip(some, torch.from_numpy(values.astype(_code_type(bits))).unbind(), strict=True):
                found[place] = Codes(own, scales[place], zero_points[place], slicing.axis, bits)
    return [found[place] for place in range(len(weights))]


def _stacked(tensors: list[Tensor]) -> Tensor:
    return torch.stack(tensors) if len(tensors) > 1 else tensors[0][None]


def _beside(dimensions: int, slicing: Slicing) -> tuple[int, ...]:
    """Return the shape in which one value a slice stands beside a weight of so many dimensions."""
    return tuple(-1 if dimension == slicing.axis else 1 for dimension in range(dimensions))


def _rounded(
    weight: Floats, scales: Floats, zeros: Floats, bits: int, rounded: Round | None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the codes of ``weight``, and what they decode to in float32."""
    values = _codes(weight, scales, zeros, bits, rounded)
    codes = values.astype(_code_type(bits))
    values -= zeros
    values *= scales
    return codes, values


def _code_type(bits: int) -> type[np.integer[Any]]:
    return np.uint8 if bits <= 8 else np.int32


def _codes(weight: Floats, scales: Floats, zeros: Floats, bits: int, rounded: Round | None) -> Floats:
    # In NumPy, whose calls cost a fraction of PyTorch's on tensors this small, and in one array.
    values = weight * np.reciprocal(scales)
    values = np.rint(values, out=values) if rounded is None else rounded(values)
    values += zeros
    return np.clip(values, 0, 2**bits - 1, out=values)


def on_grid_values(values: Floats, scale: Floats, zero_point: Floats, bits: int) -> Floats:
    """Return ``values`` rounded to a grid, still as floats; scale and zero point broadcast."""
    codes = _codes(values, scale, zero_point, bits, None)
    codes -= zero_point
    codes *= scale
    return codes


def row_squares(values: Floats) -> NDArray[np.float64]:
    """Return the sum of squares of each row."""
    return np.asarray(np.einsum("ij,ij->i", values, values, dtype=np.float64))


def grid_errors(rows: Floats, low: Floats, high: Floats, bits: int, scheme: str) -> NDArray[np.floating]:
    """Return each row's squared error on the grids for its ranges ``low``..``high``, all ``(tries, slices)``.

    In NumPy all through, and in the same two arrays: a search asks this of tensors on which PyTorch's calls cost most.
    """
    levels = np.float32(2**bits - 1)
    low, high = np.minimum(low, 0), np.maximum(high, 0)
    if scheme == "symmetric":
        scale = np.maximum(np.maximum(-low, high) / (levels / 2), EPSILON)
        zeros: Floats = np.full_like(scale, 2 ** (bits - 1))
    else:
        scale = np.maximum((high - low) / levels, EPSILON)
        zeros = np.minimum(np.rint(-low / scale), levels)
    found, steps = np.empty_like(scale), np.reciprocal(scale)
    scaled, values = np.empty_like(rows), np.empty_like(rows)
    for own, step, zero in zip(found, steps[:, :, None], zeros[:, :, None], strict=True):
        np.multiply(rows, step, out=scaled)
        scaled += zero
        np.rint(scaled, out=values)
        np.clip(values, np.float32(0), levels, out=values)
        values -= scaled
        np.einsum("ij,ij->i", values, values, out=own)
    return np.asarray(found * np.square(scale))
