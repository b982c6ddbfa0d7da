"""One value for each slice of a tensor: for all of it, for each channel, or for each group within a channel.

A channel is what one index along ``axis`` holds, its other axes flattened in their order. ``group``
consecutive values of it share a slice; the last group of a channel may be shorter.
"""

from __future__ import annotations

from workbench.encodings.base import Array, EncodingError, Shape


def slice_count(shape: Shape, axis: int | None, group: int | None = None) -> int:
    """Return how many slices a tensor of ``shape`` has; raises EncodingError for an axis it hasn't."""
    if axis is None:
        return 1
    if not 0 <= axis < len(shape):
        raise EncodingError(f"a tensor of shape {shape} has no channel axis {axis}")
    return shape[axis] * (1 if group is None else groups_of(shape, axis, group))


def groups_of(shape: Shape, axis: int, group: int) -> int:
    """Return how many groups one channel has."""
    if group < 1:
        raise EncodingError(f"a group of {group} values holds none")
    return -(-channel_size(shape, axis) // group)


def channel_size(shape: Shape, axis: int) -> int:
    """Return how many values one channel has."""
    size = 1
    for index, length in enumerate(shape):
        size *= 1 if index == axis else length
    return size


def spread(values: Array, shape: Shape, axis: int | None, group: int | None = None) -> Array:
    """Return one value a slice as an array that broadcasts against a tensor of ``shape``."""
    if axis is None:
        return values.reshape((1,) * len(shape)) if shape else values[0, ...]
    if group is None:
        return values.reshape([-1 if index == axis else 1 for index in range(len(shape))])
    size = channel_size(shape, axis)
    wide = values.reshape(shape[axis], groups_of(shape, axis, group)).repeat(group, axis=1)[:, :size]
    moved = (shape[axis], *(length for index, length in enumerate(shape) if index != axis))
    # the axis goes back to its place by a view; the arithmetic that follows does not mind the strides
    order = list(range(1, len(shape)))
    order.insert(axis, 0)
    return wide.reshape(moved).transpose(order)
