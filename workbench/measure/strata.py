"""Which images are run first: cells of like margin, and one nested order over all images.

A baseline's *margin* on an image is the logit of the right class minus the largest other; it is positive
where the baseline is right. Compression moves margins, so an image of small margin is the one that flips.
Images are sorted by margin and cut into cells, none of which holds both images the baseline gets right
and images it gets wrong; within a cell every change of correctness has one sign.

*Allocation.* A share ``PROPORTIONAL`` of the sample is drawn in proportion and the rest with a density
that falls as 1 / (rank of \\|margin\\| + ``KNEE`` · N). Neyman's optimal allocation wants the flipping
images and no others, but which those are depends on the recipe: at 0.1 % disagreement it is the 50 smallest
margins, at 5 % the 1,500 smallest. One over the rank serves every degree of damage alike, and the
proportional part bounds the loss for a wrecked model, where margins say nothing. Cells hold equal shares
of that density, so each look takes equally many images of each cell, as far as it has them.

*Order.* Each cell is shuffled and the cells take turns, the first turn in an order spread by bit reversal.
The first ``count`` images hold one of each cell, and every prefix takes an equal number of each up to one.
Given the cells, each sample is a simple random sample within every cell: the estimates are unbiased over
the orders, whatever the compressed model does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

#: Share of the sample drawn in proportion.
PROPORTIONAL = 0.7
#: Rank of the absolute margin, as a share of the set, below which the density no longer grows.
KNEE = 0.01


@dataclass(frozen=True, eq=False)
class Strata:
    """``cells`` ``(N,)``: the cell of each image, numbered along the margin; ``order`` ``(N,)``; ``sizes`` ``(H,)``."""

    cells: Ints
    order: Ints
    sizes: Ints

    @classmethod
    def of(cls, margins: Floats, right: Flags, count: int, seed: int) -> Strata:
        """Return at most ``count`` cells over the baseline's ``margins``, and a random order."""
        cells = _cut(margins, right, count)
        return cls(cells, _take_turns(cells, np.random.default_rng(seed)), np.bincount(cells))

    def look(self, n: int) -> Look:
        """Return the sample of the first ``n`` images."""
        index = self.order[:n]
        cells = self.cells[index]
        return Look(self, index, np.argsort(cells, kind="stable"), np.bincount(cells, minlength=len(self.sizes)))

    def points(self, values: Floats, count: int = 4) -> Floats:
        """Return evenly spaced quantiles of ``values`` ``(N,)`` in each cell, ``(H, count)``."""
        ranks = np.lexsort((values, self.cells))
        starts = np.cumsum(self.sizes) - self.sizes
        places = (np.arange(count) + 0.5) / count * self.sizes[:, None]
        return np.asarray(values[ranks[starts[:, None] + places.astype(np.int64)]])


@dataclass(frozen=True, eq=False)
class Look:
    """The first images of the order: ``index`` ``(n,)``, and how many of each cell, ``counts`` ``(H,)``."""

    strata: Strata
    index: Ints
    by_cell: Ints
    counts: Ints

    @property
    def unseen(self) -> Floats:
        """Share of each cell's images that were not run, ``(H,)``."""
        return np.asarray(1 - self.counts / self.strata.sizes)

    @property
    def flip(self) -> Floats:
        """What one sampled image of each cell stands for, as a share of the whole set, ``(H,)``."""
        return np.asarray(self.strata.sizes / self.counts / len(self.strata.cells))

    def totals(self, values: Floats) -> Floats:
        """Sum ``values`` ``(..., n)`` of the sampled images over each cell, ``(..., H)``."""
        starts = np.cumsum(self.counts) - self.counts
        return np.add.reduceat(values[..., self.by_cell], starts, axis=-1)

    def kernel(self, width: float) -> Floats:
        """Return weights ``(H, H)`` that pool a cell with its neighbours; ``width`` is in cells."""
        cells = np.arange(len(self.counts))
        return np.asarray(np.exp(-0.5 * ((cells[:, None] - cells) / width) ** 2))


def _cut(margins: Floats, right: Flags, count: int) -> Ints:
    density = _density(margins)
    share = float(density[~right].sum())
    wrong_cells = 0 if right.all() else count if not right.any() else min(max(1, round(count * share)), count - 1)
    cells = np.empty(len(margins), dtype=np.int64)
    start = 0
    for part, pieces in ((np.flatnonzero(~right), wrong_cells), (np.flatnonzero(right), count - wrong_cells)):
        if len(part):
            part = part[np.argsort(margins[part], kind="stable")]
            cells[part] = start + _equal_pieces(density[part], pieces)
            start = int(cells[part[-1]]) + 1
    return cells


def _density(margins: Floats) -> Floats:
    total = len(margins)
    rank = np.empty(total)
    rank[np.argsort(np.abs(margins), kind="stable")] = np.arange(total)
    steep = 1 / (rank + max(1.0, KNEE * total))
    return np.asarray(PROPORTIONAL / total + (1 - PROPORTIONAL) * steep / steep.sum())


def _equal_pieces(density: Floats, pieces: int) -> Ints:
    """Number consecutive images by piece, from 0, each piece of like density and none empty."""
    middle = (np.cumsum(density) - density / 2) / density.sum()
    piece = np.minimum((middle * pieces).astype(np.int64), pieces - 1)
    return np.asarray(np.unique(piece, return_inverse=True)[1], dtype=np.int64)


def _take_turns(cells: Ints, random: np.random.Generator) -> Ints:
    turns = np.empty(len(cells))
    shift = random.random()
    for cell in range(int(cells.max()) + 1):
        members = np.flatnonzero(cells == cell)
        turns[random.permutation(members)] = np.arange(len(members)) + (_reversed_bits(cell) + shift) % 1
    return np.asarray(np.argsort(turns, kind="stable"), dtype=np.int64)


def _reversed_bits(number: int) -> float:
    """Return van der Corput's sequence in base 2: 0, 1/2, 1/4, 3/4, 1/8, ..."""
    value, step = 0.0, 0.5
    while number:
        value, number, step = value + step * (number & 1), number >> 1, step / 2
    return value
