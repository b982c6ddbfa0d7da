"""Operators that draw neighbouring pixels together, or spread them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from .builder import Builder, Rule
from .op import CannotImport, Op, Value
from .padding import begins, is_symmetric, pad, paddings, spatial

_MAX = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_AVERAGE = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
_TO_ONE = {
    "GlobalAveragePool": (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    "GlobalMaxPool": (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
}


def max_pool(builder: Builder, op: Op) -> Value:
    """``MaxPool`` → ``nn.MaxPool1d/2d/3d``; paddings torch does not take are done before it."""
    if len(op.proto.output) > 1 and op.proto.output[1]:
        raise CannotImport("returns the places of its maxima")
    images, kernel = builder.node(op.input(0)), op.attribute("kernel_shape")
    rank = len(kernel)
    pads = paddings(op, builder.shape(images), kernel)
    if not is_symmetric(pads) or any(2 * begin > width for (begin, _), width in zip(pads, kernel, strict=True)):
        images, pads = pad(builder, images, pads, float("-inf")), ((0, 0),) * rank
    layer: Any = _of_rank(_MAX, rank)(
        _plain(kernel), _plain(spatial(op, "strides", rank)), _plain(begins(pads)),
        _plain(spatial(op, "dilations", rank)), ceil_mode=bool(op.attribute("ceil_mode", 0)),
    )  # fmt: skip
    return builder.module(op, layer, images)


def average_pool(builder: Builder, op: Op) -> Value:
    """``AveragePool`` → ``nn.AvgPool1d/2d/3d``."""
    images, kernel = builder.node(op.input(0)), op.attribute("kernel_shape")
    rank, padded = len(kernel), bool(op.attribute("count_include_pad", 0))
    pads = paddings(op, builder.shape(images), kernel)
    if any(dilation != 1 for dilation in spatial(op, "dilations", rank)):
        raise CannotImport("is dilated")
    if not is_symmetric(pads) or any(2 * begin > width for (begin, _), width in zip(pads, kernel, strict=True)):
        if not padded:
            raise CannotImport("pads its sides unevenly and leaves the padding out of its mean")
        images, pads = pad(builder, images, pads), ((0, 0),) * rank
    layer: Any = _of_rank(_AVERAGE, rank)(
        _plain(kernel), _plain(spatial(op, "strides", rank)), _plain(begins(pads)),
        ceil_mode=bool(op.attribute("ceil_mode", 0)), count_include_pad=padded,
    )  # fmt: skip
    return builder.module(op, layer, images)


def global_pool(builder: Builder, op: Op) -> Value:
    """``GlobalAveragePool`` and ``GlobalMaxPool`` → adaptive pooling to one pixel."""
    rank = len(builder.shape(op.input(0))) - 2
    return builder.module(op, _of_rank(_TO_ONE[op.proto.op_type], rank)(1), op.input(0))


def reduce_mean(builder: Builder, op: Op) -> Value:
    """``ReduceMean``; over all of height and width → ``nn.AdaptiveAvgPool2d``."""
    rank = len(builder.shape(op.input(0)))
    axes = _axes(op, rank)
    keep = bool(op.attribute("keepdims", 1))
    if rank == 4 and axes == [2, 3]:
        pooled = builder.module(op, nn.AdaptiveAvgPool2d(1), op.input(0))
        return pooled if keep else builder.call(torch.flatten, pooled, 1)
    return builder.call(torch.mean, op.input(0), axes, keep) if axes else op.input(0)


def reduce(builder: Builder, op: Op) -> Value:
    """``ReduceSum``, ``ReduceMax``, ``ReduceMin`` and ``ReduceL2`` → their torch functions."""
    functions: dict[str, Callable[..., Any]] = {
        "ReduceSum": torch.sum,
        "ReduceMax": torch.amax,
        "ReduceMin": torch.amin,
        "ReduceL2": _l2,
    }
    axes = _axes(op, len(builder.shape(op.input(0))))
    keep = bool(op.attribute("keepdims", 1))
    return builder.call(functions[op.proto.op_type], op.input(0), axes, keep) if axes else op.input(0)


def resize(builder: Builder, op: Op) -> Value:
    """``Resize`` and ``Upsample``: nearest by whole factors, or bilinear, → ``nn.Upsample``."""
    mode, place = (
        op.attribute("mode", "nearest"),
        op.attribute("coordinate_transformation_mode", "half_pixel"),
    )
    factors = _factors(op, builder.shape(op.input(0)))
    if len(factors) != 4 or factors[:2] != [1, 1] or mode not in ("nearest", "linear"):
        raise CannotImport(f"scales in the way '{mode}' by {factors}")
    if mode == "linear":
        aligned = place == "align_corners"
        layer = nn.Upsample(scale_factor=tuple(factors[2:]), mode="bilinear", align_corners=aligned)
        return builder.module(op, layer, op.input(0))
    if any(factor != round(factor) for factor in factors):
        raise CannotImport(f"repeats pixels {factors[2]} times")
    return builder.module(op, nn.Upsample(scale_factor=tuple(factors[2:])), op.input(0))


def local_response_norm(builder: Builder, op: Op) -> Value:
    """``LRN`` → ``nn.LocalResponseNorm``."""
    values = (op.attribute("alpha", 1e-4), op.attribute("beta", 0.75), op.attribute("bias", 1.0))
    return builder.module(op, nn.LocalResponseNorm(op.attribute("size"), *values), op.input(0))


POOLING: dict[str, Rule] = {
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "GlobalAveragePool": global_pool,
    "GlobalMaxPool": global_pool,
    "ReduceMean": reduce_mean,
    "ReduceSum": reduce,
    "ReduceMax": reduce,
    "ReduceMin": reduce,
    "ReduceL2": reduce,
    "Resize": resize,
    "Upsample": resize,
    "LRN": local_response_norm,
}


def _axes(op: Op, rank: int) -> list[int]:
    """Return the sorted axes to reduce: all where none are given, unless the node says none means none."""
    axes = op.setting("axes", 1)
    if not axes:
        return [] if op.attribute("noop_with_empty_axes", 0) else list(range(rank))
    return sorted(axis % rank for axis in axes)


def _factors(op: Op, shape: tuple[int, ...]) -> list[float]:
    """Return how many times larger each dimension gets."""
    scales = op.setting("scales", 1 if op.proto.op_type == "Upsample" else 2)
    sizes = [] if scales else op.setting("sizes", 3)
    axes = op.attribute("axes") or range(len(shape))
    factors = [1.0] * len(shape)
    for index, axis in enumerate(axes):
        factors[axis] = scales[index] if scales else sizes[index] / shape[axis]
    return factors


def _l2(value: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    norm: torch.Tensor = torch.linalg.vector_norm(value, 2, axes, keep)
    return norm


def _plain(numbers: Any) -> Any:
    """Return ``2`` for ``(2, 2)``: how people write it, and what shows in the module's text."""
    return numbers[0] if len(set(numbers)) == 1 else tuple(numbers)


def _of_rank(types: tuple[Any, ...], rank: int) -> Any:
    if not 1 <= rank <= len(types):
        raise CannotImport(f"works on {rank} spatial dimensions")
    return types[rank - 1]
