"""ONNX paddings (begins then ends, or ``auto_pad``) in the forms torch takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from .builder import Builder
from .op import CannotImport, Op


def spatial(op: Op, name: str, rank: int, default: int = 1) -> tuple[int, ...]:
    """Return an attribute with one number a spatial dimension."""
    return tuple(op.attribute(name) or [default] * rank)


def paddings(op: Op, shape: Sequence[int], kernel: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Return ``(begin, end)`` a spatial dimension of an input of ``shape``, ``auto_pad`` worked out."""
    rank = len(kernel)
    strides, dilations = spatial(op, "strides", rank), spatial(op, "dilations", rank)
    mode = op.attribute("auto_pad", "NOTSET")
    if mode == "VALID":
        return ((0, 0),) * rank
    if mode == "NOTSET":
        pads = op.attribute("pads") or [0] * (2 * rank)
        return tuple(zip(pads[:rank], pads[rank:], strict=True))
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        raise CannotImport(f"pads in the way '{mode}'")
    result = []
    for size, width, stride, dilation in zip(shape[2:], kernel, strides, dilations, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + (width - 1) * dilation + 1 - size)
        small, large = total // 2, total - total // 2
        result.append((small, large) if mode == "SAME_UPPER" else (large, small))
    return tuple(result)


def is_symmetric(pads: Sequence[tuple[int, int]]) -> bool:
    """Return whether torch's layers can pad so by themselves."""
    return all(begin == end for begin, end in pads)


def begins(pads: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """Return the number torch's layers take a dimension."""
    return tuple(begin for begin, _ in pads)


def pad(
    builder: Builder,
    value: fx.Node,
    pads: Sequence[tuple[int, int]],
    fill: float = 0.0,
    mode: str = "constant",
) -> fx.Node:
    """Pad the last ``len(pads)`` dimensions of ``value``."""
    flat = [number for pair in reversed(pads) for number in pair]
    settings: dict[str, Any] = {"mode": mode} | ({"value": fill} if mode == "constant" else {})
    return builder.call(torch.nn.functional.pad, value, flat, **settings)
