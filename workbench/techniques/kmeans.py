"""Lloyd's k-means of numbers on a line, fast enough for a slider.

On a line the clusters are runs of the sorted values, cut halfway between neighbouring centres, and a
run's mean is a difference of running sums: once the values are sorted, an iteration costs a search for
each cut, whatever their number.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Start = Literal["linear", "random", "density"]


class SortedValues:
    """Float32 ``values`` (n,) in order, with running sums; raises ValueError where one isn't finite.

    ``weights`` (n,) say how much each counts in the squared error; all alike unless said.
    """

    def __init__(self, values: NDArray[np.float32], weights: NDArray[np.float32] | None = None) -> None:
        self.order = np.argsort(values)
        self.values = values[self.order].astype(np.float64)
        if len(values) and not np.isfinite(self.values[[0, -1]]).all():
            raise ValueError("the values are not all finite")
        mass = np.ones_like(self.values) if weights is None else weights[self.order].astype(np.float64)
        self._masses, self._sums, self._squares = (
            np.concatenate([[0.0], np.cumsum(mass * power)]) for power in (1, self.values, self.values**2)
        )

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        return self.order.nbytes + self.values.nbytes + 3 * self._sums.nbytes

    def cluster(self, centres: NDArray[np.float64], iterations: int, refill: bool = True) -> NDArray[np.float64]:
        """Return the centres (k,), ascending, after Lloyd's iterations, at most so many.

        Where it has settled and centres are nearest to nothing (pruning leaves a gap around zero), they
        move to halve the runs that are farthest from their centres, and it goes on, unless ``refill`` is off.
        """
        for _ in range(iterations):
            ends = self._ends(centres)
            masses = np.diff(self._masses[ends])
            means = np.divide(np.diff(self._sums[ends]), masses, out=centres.copy(), where=masses > 0)
            if np.array_equal(means, centres):
                means = self._split(means, ends) if refill else means
                if np.array_equal(means, centres):
                    break
            centres = means
        return centres

    def _split(self, centres: NDArray[np.float64], ends: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the centres with the idle ones moved into the runs of the largest squared error."""
        masses = np.diff(self._masses[ends])
        idle = masses == 0
        spread = (self.values[ends[1:] - 1] > self.values[np.minimum(ends[:-1], len(self.values) - 1)]) & ~idle
        if not idle.any() or not spread.any():
            return centres
        errors = np.where(spread, np.diff(self._squares[ends]) - masses * centres**2, -np.inf)
        chosen = np.argsort(errors)[::-1][: min(int(idle.sum()), int(spread.sum()))]
        middles = np.searchsorted(self.values, centres[chosen], side="right")
        middles = middles.clip(ends[chosen] + 1, ends[chosen + 1] - 1)
        lower, upper = (
            (self._sums[end] - self._sums[begin]) / (self._masses[end] - self._masses[begin])
            for begin, end in ((ends[chosen], middles), (middles, ends[chosen + 1]))
        )
        moved = centres.copy()
        moved[chosen] = lower
        moved[np.flatnonzero(idle)[: len(chosen)]] = upper
        return np.sort(moved)

    def assign(self, centres: NDArray[np.float64]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Return the number (n,) of each value's nearest centre, in the order the values came, and the centres.

        Centres that are nearest to nothing are left out.
        """
        counts = np.diff(self._ends(centres))
        used = counts > 0
        codes = np.empty(len(self.values), np.uint8)
        codes[self.order] = np.repeat(np.arange(int(used.sum()), dtype=np.uint8), counts[used])
        return codes, centres[used].astype(np.float32)

    def start(self, kind: Start, count: int, seed: int) -> NDArray[np.float64]:
        """Return ``count`` first centres, ascending: as far apart, as many values apart, or some of the values."""
        values = self.values
        if kind == "linear":
            return np.linspace(values[0], values[-1], count)
        if kind == "density":
            places = ((np.arange(count) + 0.5) / count * len(values)).astype(np.intp)
            return values[places]
        chosen = np.random.default_rng(seed).choice(len(values), count, replace=len(values) < count)
        return np.sort(values[chosen])

    def _ends(self, centres: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return where each centre's run begins, and the end of the last."""
        cuts = np.searchsorted(self.values, (centres[1:] + centres[:-1]) / 2, side="right")
        return np.concatenate([[0], cuts, [len(self.values)]])
