"""A weight as a matrix with one row for each set of weights that shares a scale."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.encodings.slices import channel_size, groups_of

Floats = NDArray[np.float32]

#: Weights that a search over rows looks at at a time: what it makes of them stays in the processor's cache.
BLOCK = 2**15


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


def fit_rows(matrices: Sequence[Floats], fit: Callable[[Floats], Floats]) -> list[Floats]:
    """Return what ``fit`` finds for the rows of each of ``matrices``: ``(…, rows)`` of ``(rows, width)``.

    Rows of one width are looked at together, whichever matrix they are of, since a deep model has hundreds of
    small ones; so ``fit`` must look at each row alone.
    """
    found: dict[int, Floats] = {}
    widths: dict[int, list[int]] = defaultdict(list)
    for place, rows in enumerate(matrices):
        widths[rows.shape[1]].append(place)
    for width, places in widths.items():
        rows = np.concatenate([matrices[place] for place in places]) if len(places) > 1 else matrices[places[0]]
        step = max(1, BLOCK // max(1, width))
        fitted = [fit(rows[first : first + step]) for first in range(0, max(1, len(rows)), step)]
        ends = np.cumsum([len(matrices[place]) for place in places])[:-1]
        found.update(zip(places, np.split(np.concatenate(fitted, axis=-1), ends, axis=-1), strict=True))
    return [found[place] for place in range(len(matrices))]
