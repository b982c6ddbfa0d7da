"""Functions whose gradient is not their own: rounding passed straight through, parameters that learn more slowly."""

from __future__ import annotations

from torch import Tensor


def straight(values: Tensor, rounded: Tensor) -> Tensor:
    """Return ``rounded``, with the gradient of ``values``."""
    return values + (rounded - values).detach()


def slower(parameter: Tensor, share: float) -> Tensor:
    """Return ``parameter``, with ``share`` of its gradient."""
    return parameter * share + (parameter * (1 - share)).detach()


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
