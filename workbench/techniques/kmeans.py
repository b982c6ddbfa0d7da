"""Lloyd's k-means of numbers on a line, fast enough for a slider.

On a line the clusters are runs of the sorted values, cut halfway between neighbouring centres, and a
run's mean is a difference of running sums: once the values are sorted, an iteration costs a search for
each cut, whatever their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Start = Literal["linear", "random", "density"]
Doubles = NDArray[np.float64]


class SortedValues:
    """Float32 ``values`` (n,) in order, with running ``sums``; raises ValueError where one isn't finite.

    ``weights`` (n,) say how much each counts in the squared error; all alike unless said, and ``masses``, the
    running weights, are None then. It holds 16 bytes a value, 28 with weights: a slider comes back to it, and
    caches are bounded.
    """

    def __init__(self, values: NDArray[np.float32], weights: NDArray[np.float32] | None = None) -> None:
        order = np.argsort(values)
        self.values = values[order]
        if len(values) and not np.isfinite(self.values[[0, -1]]).all():
            raise ValueError("the values are not all finite")
        self.order = order.astype(np.uint32)
        self._weights = None if weights is None else weights[order]
        mass = np.float32(1) if self._weights is None else self._weights.astype(np.float64)
        self.sums = _running(self.values * mass)
        self.masses = None if self._weights is None else _running(self._weights)

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        held = (self.order, self.values, self.sums, self.masses, self._weights)
        return sum(array.nbytes for array in held if array is not None)

    def cluster(self, centres: Doubles, iterations: int, refill: bool = True) -> Doubles:
        """Return the centres (k,), ascending, after Lloyd's iterations, at most so many; see ``cluster_all``."""
        (found,) = cluster_all([self], centres[None], iterations, refill)
        return np.asarray(found)

    def _split(self, centres: Doubles, ends: NDArray[np.intp]) -> Doubles:
        """Return the centres with the idle ones moved into the runs of the largest squared error."""
        masses = self._mass_between(ends[:-1], ends[1:])
        idle = masses == 0
        if not idle.any():
            return centres
        spread = (self.values[ends[1:] - 1] > self.values[np.minimum(ends[:-1], len(self.values) - 1)]) & ~idle
        if not spread.any():
            return centres
        errors = np.where(spread, self._squares(ends) - masses * centres**2, -np.inf)
        chosen = np.argsort(errors)[::-1][: min(int(idle.sum()), int(spread.sum()))]
        middles = self._place(centres[chosen])
        middles = middles.clip(ends[chosen] + 1, ends[chosen + 1] - 1)
        lower, upper = (
            (self.sums[end] - self.sums[begin]) / self._mass_between(begin, end)
            for begin, end in ((ends[chosen], middles), (middles, ends[chosen + 1]))
        )
        moved = centres.copy()
        moved[chosen] = lower
        moved[np.flatnonzero(idle)[: len(chosen)]] = upper
        return np.sort(moved)

    def assign(self, centres: Doubles) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Return the number (n,) of each value's nearest centre, in the order the values came, and the centres.

        Centres that are nearest to nothing are left out.
        """
        counts = np.diff(self._ends(centres))
        used = counts > 0
        codes = np.empty(len(self.values), np.uint8)
        codes[self.order] = np.repeat(np.arange(int(used.sum()), dtype=np.uint8), counts[used])
        return codes, centres[used].astype(np.float32)

    def start(self, kind: Start, count: int, seed: int) -> Doubles:
        """Return ``count`` first centres, ascending: as far apart, as many values apart, or some of the values."""
        values = self.values
        if kind == "linear":
            return np.linspace(np.float64(values[0]), np.float64(values[-1]), count)
        if kind == "density":
            places = ((np.arange(count) + 0.5) / count * len(values)).astype(np.intp)
            return values[places].astype(np.float64)
        chosen = np.random.default_rng(seed).choice(len(values), count, replace=len(values) < count)
        return np.sort(values[chosen]).astype(np.float64)

    def _ends(self, centres: Doubles) -> NDArray[np.intp]:
        """Return where each centre's run begins, and the end of the last."""
        cuts = self._place((centres[1:] + centres[:-1]) / 2)
        return np.concatenate([[0], cuts, [len(self.values)]])

    def _place(self, cuts: Doubles) -> NDArray[np.intp]:
        """Return how many values are at most each cut."""
        return np.asarray(self.values.searchsorted(_narrow(cuts), side="right"))

    def _mass_between(self, begin: NDArray[np.intp], end: NDArray[np.intp]) -> Doubles:
        if self.masses is None:
            return (end - begin).astype(np.float64)
        return np.asarray(self.masses[end] - self.masses[begin])

    def _squares(self, ends: NDArray[np.intp]) -> Doubles:
        """Return each run's sum of squares; only asked for where centres are idle."""
        squares = self.values.astype(np.float64) ** 2
        return np.diff(_running(squares if self._weights is None else squares * self._weights)[ends])


def cluster_all(runs: Sequence[SortedValues], centres: Doubles, iterations: int, refill: bool = True) -> Doubles:
    """Return the centres (runs, k) of each of ``runs``, ascending, after Lloyd's iterations, at most so many.

    Where a run has settled and centres are nearest to nothing (pruning leaves a gap around zero), they move to
    halve the clusters that are farthest from their centres, and it goes on, unless ``refill`` is off. All runs
    go in step, since most of what an iteration costs is the same for one and for twenty.
    """
    centres = centres.copy()
    active = np.array([place for place, run in enumerate(runs) if len(run.values)], np.intp)
    sums, masses = np.empty((2, len(runs), centres.shape[1] + 1))
    ends = np.zeros(sums.shape, np.intp)
    ends[:, -1] = [len(run.values) for run in runs]
    for _ in range(iterations):
        if not len(active):
            break
        present = centres[active]
        cuts = _narrow((present[:, 1:] + present[:, :-1]) / 2)
        for place, cut in zip(active, cuts, strict=True):
            run = runs[place]
            ends[place, 1:-1] = run.values.searchsorted(cut, side="right")
            run.sums.take(ends[place], out=sums[place])
            if run.masses is not None:
                run.masses.take(ends[place], out=masses[place])
            else:
                masses[place] = ends[place]
        count, total = (part[active, 1:] - part[active, :-1] for part in (masses, sums))
        moved = np.where(count > 0, total / np.where(count > 0, count, 1), present)
        settled = (moved == present).all(axis=1)
        for place in np.flatnonzero(settled) if refill else ():
            moved[place] = runs[active[place]]._split(moved[place], ends[active[place]])
            settled[place] = (moved[place] == present[place]).all()
        centres[active] = moved
        active = active[~settled]
    return centres


def _narrow(cuts: Doubles) -> NDArray[np.float32]:
    """Return cuts in the values' own type, or all values would be widened; rounded down, so that none is passed."""
    narrow = cuts.astype(np.float32)
    return np.where(narrow > cuts, np.nextafter(narrow, np.float32(-np.inf)), narrow)


def _running(values: NDArray[np.floating]) -> Doubles:
    """Return the sums of the first 0, 1, … n values."""
    sums = np.zeros(len(values) + 1)
    np.cumsum(values, out=sums[1:], dtype=np.float64)
    return sums
