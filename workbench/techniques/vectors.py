"""Lloyd's k-means of short vectors, the runs of product quantization.

The rows of a weight matrix are cut into runs of equal length; a run's squared error is weighed by a metric,
one for all runs in the same place of their rows:

    error = sum over runs v of (c - v)ᵀ G (c - v),   c the entry nearest to v, G the metric of v's place

With the second moment of what the run is multiplied by as G, that is what the run's output errs by (Stock et
al. 2020, who have one moment for all places). The identity gives plain k-means.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

#: Distances that are held at a time, at most: 8 MB of them.
HELD = 2**21


@dataclass(frozen=True)
class Runs:
    """``vectors`` (places, rows, length), those ``used`` (places, rows), and ``metrics`` (places, length, length).

    Runs that are not used count for nothing and belong to no entry.
    """

    vectors: Floats
    used: NDArray[np.bool_]
    metrics: Floats

    @property
    def count(self) -> int:
        """Number of runs that are used."""
        return int(np.count_nonzero(self.used))

    def start(self, count: int, seed: int) -> Doubles:
        """Return ``count`` of the used runs by chance, as first centres (count, length)."""
        places = np.random.default_rng(seed).choice(self.count, count, replace=False)
        return self.vectors[self.used][np.sort(places)].astype(np.float64)

    def cluster(self, centres: Doubles, iterations: int, check: Callable[[], None] = lambda: None) -> Doubles:
        """Return the centres (k, length) after at most so many of Lloyd's iterations.

        A centre that is nearest to nothing moves to the run that is farthest from its own. ``check`` is
        called between pieces of work and may raise.
        """
        before = None
        for _ in range(iterations):
            codes, errors = self.assign(centres, check)
            if before is not None and np.array_equal(codes, before):
                break
            centres, before = self._refill(self._means(codes, centres), codes, errors), codes
        return centres

    def assign(self, centres: Doubles, check: Callable[[], None] = lambda: None) -> tuple[NDArray[np.intp], Floats]:
        """Return the nearest centre and the squared error of each used run, in the order of ``used``'s places."""
        entries = centres.astype(np.float32)
        norms = np.einsum("kd,pde,ke->pk", entries, self.metrics, entries, optimize=True)
        codes = np.empty(self.used.shape, np.intp)
        errors = np.empty(self.used.shape, np.float32)
        weighed = self._weighed
        step = max(1, HELD // max(1, len(entries) * self.used.shape[1]))
        for first in range(0, len(weighed), step):
            check()
            piece = slice(first, first + step)
            distances = weighed[piece] @ (-2 * entries.T)
            distances += norms[piece, None]
            codes[piece] = distances.argmin(2)
            errors[piece] = np.take_along_axis(distances, codes[piece, :, None], 2)[..., 0]
        squares = np.einsum("prd,prd->pr", weighed, self.vectors)
        return codes[self.used], (errors + squares)[self.used]

    @cached_property
    def _weighed(self) -> Floats:
        found: Floats = self.vectors @ self.metrics
        return found

    def _means(self, codes: NDArray[np.intp], centres: Doubles) -> Doubles:
        """Return the vector that errs least for the runs of each centre: their mean, weighed by the metrics."""
        count, length = centres.shape
        places = np.nonzero(self.used)[0]
        members = np.bincount(places * count + codes, minlength=len(self.metrics) * count)
        members = members.reshape(len(self.metrics), count).astype(np.float64)
        normal = (members.T @ self.metrics.reshape(len(self.metrics), -1)).reshape(count, length, length)
        weighed = self._weighed[self.used]
        sums = np.stack([np.bincount(codes, weighed[:, axis], count) for axis in range(length)], 1)
        # what no run of a centre says anything about stays where it was
        ridge = 1e-9 * np.trace(normal, axis1=1, axis2=2) + 1e-30
        normal += ridge[:, None, None] * np.eye(length)
        solved = np.linalg.solve(normal, (sums + ridge[:, None] * centres)[..., None])[..., 0]
        return np.where(np.bincount(codes, minlength=count)[:, None] > 0, solved, centres)

    def _refill(self, centres: Doubles, codes: NDArray[np.intp], errors: Floats) -> Doubles:
        idle = np.flatnonzero(np.bincount(codes, minlength=len(centres)) == 0)
        if not len(idle):
            return centres
        farthest = np.argsort(errors)[::-1][: len(idle)]
        farthest = farthest[errors[farthest] > 0]
        moved = centres.copy()
        moved[idle[: len(farthest)]] = self.vectors[self.used][farthest]
        return moved
