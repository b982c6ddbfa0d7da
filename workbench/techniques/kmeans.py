"""Lloyd's k-means of numbers on a line, fast enough for a slider.

On a line the clusters are runs of the sorted values, cut halfway between neighbouring centres, and a
run's mean is a difference of running sums: once the values are sorted, an iteration costs a search for
each cut, whatever their number. Most cuts settle long before the last one does, and those of many books are
searched for in one go: the values of all of them are kept in one sorted array, as whole numbers that say first
the book and then the value (``_Books``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Start = Literal["linear", "random", "density"]
Doubles = NDArray[np.float64]
Places = NDArray[np.intp]

#: A search run by run is faster than one in all values at once where there are few runs, or many cuts of each.
FEW, MANY = 32, 20


class SortedValues:
    """Float32 values (n,) in order, with running ``sums``; raises ValueError where one isn't finite.

    ``weights`` (n,) say how much each counts in the squared error; all alike unless said, and ``masses``, the
    running weights, are None then. Values are kept as whole numbers, ``keys``, that are in their order, and
    ``order`` says where each was. It holds 24 bytes a value, 36 with weights: a slider comes back to it, and caches
    are bounded.
    """

    def __init__(self, values: NDArray[np.float32], weights: NDArray[np.float32] | None = None) -> None:
        order = np.argsort(values)
        ordered = values[order]
        if len(values) and not np.isfinite(ordered[[0, -1]]).all():
            raise ValueError("the values are not all finite")
        self._given = len(values)
        self._keep(order.astype(np.uint32), _keys_of(ordered), None if weights is None else weights[order])

    def _keep(self, order: NDArray[np.uint32], keys: NDArray[np.int32], weights: NDArray[np.float32] | None) -> None:
        self.order, self.keys, self._weights = order, keys, weights
        values = _values_of(keys)
        self.sums = _running(values if weights is None else values * weights.astype(np.float64))
        self.masses = None if weights is None else _running(weights)

    def __len__(self) -> int:
        return len(self.keys)

    def beyond(self, threshold: float) -> SortedValues:
        """Return those of larger magnitude than ``threshold`` (from 0 up), without putting them in order again."""
        ends = _keys_of(np.array([-threshold, threshold], np.float32))
        begin, end = self.keys.searchsorted(ends[0]), self.keys.searchsorted(ends[1], side="right")
        if begin == end:
            return self
        cut, weights = slice(begin, end), self._weights
        left = SortedValues.__new__(SortedValues)
        left._given = self._given
        left._keep(
            np.delete(self.order, cut), np.delete(self.keys, cut), None if weights is None else np.delete(weights, cut)
        )
        return left

    def placed(self, numbers: NDArray[np.uint8], blank: int) -> NDArray[np.uint8]:
        """Return ``numbers`` (n,), one a value in order, where the values were; ``blank`` where others had been."""
        found = np.full(self._given, blank, np.uint8) if len(self) < self._given else np.empty(self._given, np.uint8)
        found[self.order] = numbers
        return found

    @property
    def nbytes(self) -> int:
        """Bytes that it holds, once all has been asked for."""
        squares = self.sums  # of the same size
        held = (self.order, self.keys, self.sums, squares, self.masses, self._weights)
        return sum(array.nbytes for array in held if array is not None)

    def cluster(self, centres: Doubles, iterations: int, refill: bool = True) -> Doubles:
        """Return the centres (k,), ascending, after Lloyd's iterations, at most so many; see ``cluster_all``."""
        (found,) = cluster_all([self], centres[None], iterations, refill)
        return np.asarray(found)

    def assign(self, centres: Doubles) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Return the number of each value's nearest centre, as the values came, and the centres; see ``assign_all``."""
        ((numbers, used),) = assign_all([self], centres[None])
        return self.placed(numbers, len(used)), used

    @cached_property
    def squares(self) -> Doubles:
        """The sums of the first 0, 1, … n squares, by weight."""
        squares = np.square(_values_of(self.keys), dtype=np.float64)
        return _running(squares if self._weights is None else squares * self._weights)

    def start(self, kind: Start, count: int, seed: int) -> Doubles:
        """Return ``count`` first centres, ascending; see ``start_all``."""
        (found,) = start_all([self], kind, count, seed)
        return np.asarray(found)

    def _some(self, kind: Start, count: int, seed: int) -> Doubles:
        """Return some of the values, as first centres."""
        if kind == "density":
            places = ((np.arange(count) + 0.5) / count * len(self)).astype(np.intp)
        else:
            chance = np.random.default_rng(seed)
            places = np.sort(chance.choice(len(self), count, replace=len(self) < count))
        return _values_of(self.keys[places]).astype(np.float64)


def start_all(runs: Sequence[SortedValues], kind: Start, count: int, seed: int) -> Doubles:
    """Return first centres (runs, count) of each of ``runs``, ascending; zeros where a run has no values.

    They are as far apart, as many values apart, or some of the values by chance.
    """
    starts = np.zeros((len(runs), count))
    filled = [place for place, run in enumerate(runs) if len(run)]
    if kind == "linear" and filled:
        ends = _values_of(np.stack([runs[place].keys[[0, -1]] for place in filled])).astype(np.float64)
        low, high = ends[:, :1], ends[:, 1:]
        starts[filled] = np.arange(count) * ((high - low) / max(1, count - 1)) + low
        starts[filled, -1:] = high
    else:
        for place in filled:
            starts[place] = runs[place]._some(kind, count, seed)
    return starts


def assign_all(runs: Sequence[SortedValues], centres: Doubles) -> list[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    """Return for each of ``runs`` the number (n,) of each value's nearest centre, in order, and the centres.

    ``centres`` (runs, k) ascend. Those that are nearest to nothing are left out. ``SortedValues.placed`` brings the
    numbers back to where the values were.
    """
    count = centres.shape[1]
    cuts = _keys_of(_narrow((centres[:, 1:] + centres[:, :-1]) / 2))
    ends = np.zeros((len(runs), count + 1), np.intp)
    for own, run, cut in zip(ends, runs, cuts, strict=True):
        own[1:count] = run.keys.searchsorted(cut, side="right")
        own[count] = len(run)
    sizes = np.diff(ends, axis=1)
    used = sizes > 0
    in_order = np.repeat((used.cumsum(axis=1) - 1).astype(np.uint8), sizes.ravel())
    books, last = centres.astype(np.float32), np.cumsum([len(run) for run in runs], dtype=np.intp)
    return [
        (in_order[end - len(run) : end], book[own]) for run, end, book, own in zip(runs, last, books, used, strict=True)
    ]


def cluster_all(
    runs: Sequence[SortedValues],
    centres: Doubles,
    iterations: int,
    refill: bool = True,
    check: Callable[[], None] = lambda: None,
) -> Doubles:
    """Return the centres (runs, k) of each of ``runs``, ascending, after Lloyd's iterations, at most so many.

    Where a run has settled and centres are nearest to nothing (pruning leaves a gap around zero), they move to
    halve the clusters that are farthest from their centres, and it goes on, unless ``refill`` is off. ``check`` is
    called in each iteration and may raise.
    """
    centres = centres.copy()
    filled = np.array([place for place, run in enumerate(runs) if len(run)], np.intp)
    if not len(filled):
        return centres
    books = _Books([runs[place] for place in filled], centres[filled])
    for _ in range(iterations):
        check()
        if not books.iterate(refill):
            break
    centres[filled] = books.centres
    return centres


class _Books:
    """The clusters of many runs between two iterations: all ``centres``, a run's after the other's.

    Cluster c is the values from ``ends[c]`` to ``ends[c + 1]``, counted through all runs. An iteration looks only
    at the cuts beside centres that moved in the one before.
    """

    def __init__(self, runs: Sequence[SortedValues], centres: Doubles) -> None:
        count, self._size = centres.shape
        lengths = np.array([len(run) for run in runs])
        self._firsts = firsts = np.concatenate([[0], np.cumsum(lengths)])
        self._runs = runs
        self._centres = centres.ravel()
        self._row = np.repeat(np.arange(count), self._size)
        self._sums = np.concatenate([run.sums for run in runs])
        masses = [run.masses for run in runs if run.masses is not None]
        self._masses = np.concatenate(masses) if masses else None
        self._ends = np.append(firsts[self._row], firsts[-1])
        self._moved = np.ones(len(self._centres), np.bool_)
        self._active: NDArray[np.bool_] = np.ones(count, np.bool_)
        self._inner = np.arange(1, len(self._centres) + 1) % self._size != 0  # a cut follows within the run

    @property
    def centres(self) -> Doubles:
        """The centres (runs, k), those of each run ascending."""
        return self._centres.reshape(-1, self._size)

    def iterate(self, refill: bool) -> bool:
        """Assign values to centres and move these to their means; return whether another iteration may change any."""
        beside = self._moved.copy()
        beside[:-1] |= self._moved[1:]
        left = np.flatnonzero(beside & self._inner)
        ends = self._find(self._row[left], (self._centres[left] + self._centres[left + 1]) / 2)
        other = ends != self._ends[left + 1]
        left = left[other]
        self._ends[left + 1] = ends[other]
        self._moved[left] = self._moved[left + 1] = True
        changed = np.flatnonzero(self._moved)
        before = self._centres[changed]
        means = self._means(self._row[changed], self._ends[changed], self._ends[changed + 1], before)
        self._moved[changed] = np.not_equal(means, before)
        self._centres[changed] = means
        if refill:
            self._split(np.flatnonzero(self._active & ~self._changing()))
        self._active = self._changing()
        return bool(self._active.any())

    def _changing(self) -> NDArray[np.bool_]:
        """Return which runs have a centre that moved."""
        return np.asarray(self._moved.reshape(-1, self._size).any(axis=1))

    def _find(self, rows: Places, cuts: Doubles) -> Places:
        """Return how many of all values come before a cut in its run; ``rows`` ascend."""
        keys = _keys_of(_narrow(cuts))
        if len(self._runs) > FEW and len(keys) < MANY * len(self._runs):
            return np.asarray(self._keys.searchsorted(keys + (rows << 32), side="right"))
        found = self._firsts[rows]
        edges = rows.searchsorted(np.arange(len(self._runs) + 1)).tolist()
        for run, begin, end in zip(self._runs, edges[:-1], edges[1:], strict=True):
            if begin < end:
                found[begin:end] += run.keys.searchsorted(keys[begin:end], side="right")
        return found

    @cached_property
    def _keys(self) -> NDArray[np.int64]:
        """The keys of all values, those of each run above those of the one before."""
        lengths = np.diff(self._firsts)
        keys = np.repeat(np.arange(len(lengths)) << 32, lengths)
        keys += np.concatenate([run.keys for run in self._runs])
        return keys

    def _means(self, rows: Places, begin: Places, end: Places, otherwise: Doubles) -> Doubles:
        """Return the mean of the values between two places of each run; ``otherwise`` where there are none."""
        mass = self._between(self._masses, rows, begin, end)
        total = self._between(self._sums, rows, begin, end)
        return np.where(mass > 0, total / np.where(mass > 0, mass, 1), otherwise)

    def _between(self, running: Doubles | None, rows: Places, begin: Places, end: Places) -> Doubles:
        """Return the difference of running sums, which each run has one more of than values; without sums, a count."""
        if running is None:
            return (end - begin).astype(np.float64)
        return np.asarray(running.take(end + rows) - running.take(begin + rows))

    def _split(self, settled: Places) -> None:
        """Move idle centres of the runs ``settled`` into the clusters of the largest squared error."""
        places = settled[:, None] * self._size + np.arange(self._size)
        idle = self._ends[places] == self._ends[places + 1]
        some = idle.any(axis=1)
        if not some.any():
            return
        settled, places, idle = settled[some], places[some], idle[some]
        rows, centres = settled[:, None], self._centres[places]
        begin, end = self._ends[places], self._ends[places + 1]
        spread = (end > begin) & (self._values.take(end - 1) > self._values.take(begin, mode="clip"))
        counts = np.minimum(idle.sum(axis=1), spread.sum(axis=1))[:, None]
        squares = self._between(self._squares, rows, begin, end)
        errors = squares - self._between(self._masses, rows, begin, end) * centres**2
        largest = np.where(spread, errors, -np.inf).argsort(axis=1)[:, ::-1]
        row, rank = np.nonzero(np.arange(self._size) < counts)
        chosen = row, largest[row, rank]
        rows, begin, end, halved = settled[row], begin[chosen], end[chosen], centres[chosen]
        middles = self._find(rows, halved).clip(begin + 1, end - 1)
        moved = centres.copy()
        moved[chosen] = self._means(rows, begin, middles, halved)
        moved[idle & (idle.cumsum(axis=1) <= counts)] = self._means(rows, middles, end, halved)
        moved.sort(axis=1)
        self._moved[places] = moved != centres
        self._centres[places] = moved

    @cached_property
    def _squares(self) -> Doubles:
        """The running sums of squares of all runs."""
        return np.concatenate([run.squares for run in self._runs])

    @cached_property
    def _values(self) -> NDArray[np.int32]:
        """The keys of all values."""
        return np.concatenate([run.keys for run in self._runs])


def _keys_of(values: NDArray[np.float32]) -> NDArray[np.int32]:
    """Return whole numbers that are in the order of the values."""
    bits = (values + np.float32(0)).view(np.int32)  # minus zero becomes zero
    return np.asarray(bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF)))


def _values_of(keys: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return the values that ``keys`` stand for."""
    return np.asarray((keys ^ ((keys >> 31) & np.int32(0x7FFFFFFF))).view(np.float32))


def _narrow(cuts: Doubles) -> NDArray[np.float32]:
    """Return cuts in the values' own type, or all values would be widened; rounded down, so that none is passed."""
    narrow = cuts.astype(np.float32)
    return np.where(narrow > cuts, np.nextafter(narrow, np.float32(-np.inf)), narrow)


def _running(values: NDArray[np.floating]) -> Doubles:
    """Return the sums of the first 0, 1, … n values."""
    sums = np.empty(len(values) + 1)
    sums[0] = 0
    np.cumsum(values, out=sums[1:], dtype=np.float64)
    return sums
