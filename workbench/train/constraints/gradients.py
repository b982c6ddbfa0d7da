"""Functions whose gradient is not their own: rounding passed straight through, parameters that learn more slowly."""

from __future__ import annotations

import torch
from torch import Tensor


def straight(values: Tensor, rounded: Tensor) -> Tensor:
    """Return ``rounded``, with the gradient of ``values``."""
    return values + (rounded - values).detach()


def slower(parameter: Tensor, share: float) -> Tensor:
    """Return ``parameter``, with ``share`` of its gradient."""
    still = parameter.detach()
    return still + (parameter - still) * share


def rounded_to(values: Tensor, step: Tensor, zero: Tensor, top: int) -> Tensor:
    """Return ``values`` on the grid of the codes 0 to ``top``; steps and codes of zero broadcast against them."""
    inside = (values / step + zero).clamp(0, top)
    return (straight(inside, inside.round()) - zero) * step


def whole_zero(offset: Tensor, step: Tensor, top: int) -> Tensor:
    """Return the code of zero of a grid from ``offset`` on in steps of ``step``: 0 to ``top``, a whole number."""
    zero = (-offset / step).clamp(0, top)
    return straight(zero, zero.round())


def spread(values: Tensor, shape: tuple[int, ...], axis: int | None, group: int | None) -> Tensor:
    """Return one value a slice (``workbench.encodings.slices``) such that it broadcasts against ``shape``."""
    if axis is None:
        return values.reshape([1] * len(shape))
    if group is None:
        return values.reshape([-1 if place == axis else 1 for place in range(len(shape))])
    moved = [shape[axis], *(length for place, length in enumerate(shape) if place != axis)]
    size = 1
    for length in moved[1:]:
        size *= length
    rows = values.view(shape[axis], -1).repeat_interleave(group, 1)[:, :size]
    return rows.reshape(moved).movedim(0, axis)


def totals(values: Tensor, axis: int | None, group: int | None) -> Tensor:
    """Return the sum over each slice, in the slices' order."""
    if axis is None:
        return values.sum().view(1)
    rows = values.movedim(axis, 0).flatten(1)
    if group is None:
        return rows.sum(1)
    padded = torch.nn.functional.pad(rows, (0, -rows.shape[1] % group))
    return padded.view(len(rows), -1, group).sum(2).flatten()
