"""A weight as a matrix with one row for each set of weights that shares a scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.encodings.slices import channel_size, groups_of

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Slicing:
    """Which weights share a scale: all (``axis`` None), a channel's, or ``group`` consecutive ones of a channel's."""

    axis: int | None = None
    group: int | None = None

    def rows(self, values: Floats) -> Floats:
        """Return the weights ``(slices, width)``; a short last group of a channel is filled up with zeros."""
        if self.axis is None:
            return values.reshape(1, -1)
        flat = np.moveaxis(values, self.axis, 0).reshape(values.shape[self.axis], -1)
        if self.group is None:
            return flat
        short = -flat.shape[1] % self.group
        return np.pad(flat, ((0, 0), (0, short))).reshape(-1, self.group)

    def counts(self, shape: tuple[int, ...]) -> NDArray[np.int64]:
        """Return how many weights each row has, ``(slices,)``."""
        if self.axis is None:
            return np.array([int(np.prod(shape))])
        size = channel_size(shape, self.axis)
        if self.group is None:
            return np.full(shape[self.axis], size)
        groups = np.full(groups_of(shape, self.axis, self.group), self.group)
        groups[-1] = size - self.group * (len(groups) - 1)
        return np.tile(groups, shape[self.axis])

    def weight(self, rows: NDArray[np.generic], shape: tuple[int, ...]) -> NDArray[np.generic]:
        """Return what ``rows`` made of a weight of ``shape``, as a contiguous array."""
        if self.axis is None:
            return rows.reshape(shape)
        moved = [length for index, length in enumerate(shape) if index != self.axis]
        flat = rows.reshape(shape[self.axis], -1)[:, : channel_size(shape, self.axis)]
        return np.ascontiguousarray(np.moveaxis(flat.reshape(shape[self.axis], *moved), 0, self.axis))
