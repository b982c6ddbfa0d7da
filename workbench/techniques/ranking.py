"""Magnitudes of many weights, ready to answer which one is the k-th smallest.

A slider that moves asks for another k of the same weights. Sorting millions of them takes most of a
second; but the bits of floats ≥ 0, read as integers, are in the floats' order, so that counting by the
upper 16 bits (a radix sort's first pass) leaves only the few of one count to look through.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

#: Up to so many are sorted at once, which then costs less than counting.
SORTED = 1 << 17


class Ranking:
    """The order of float32 magnitudes (n,), all ≥ 0, which ``compute`` gives, again where it is asked for places."""

    def __init__(self, compute: Callable[[], NDArray[np.float32]]) -> None:
        self._compute = compute
        bits = compute().view(np.uint32)
        self._sorted = np.sort(bits) if len(bits) <= SORTED else None
        if self._sorted is None:
            self._bits, self._upper = bits, (bits >> 16).astype(np.uint16)
            self._upto = np.cumsum(np.bincount(self._upper))

    def __len__(self) -> int:
        return len(self._bits if self._sorted is None else self._sorted)

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        held = (self._bits, self._upper, self._upto) if self._sorted is None else (self._sorted,)
        return sum(array.nbytes for array in held)

    def smallest(self, count: int) -> tuple[float, int]:
        """Return the ``count``-th smallest magnitude (from 1), and how many are no larger than it."""
        inside, before = self._sorted, 0
        if inside is None:
            bucket = int(np.searchsorted(self._upto, count))
            before = int(self._upto[bucket - 1]) if bucket else 0
            inside = np.sort(self._bits[self._upper == bucket])
        found = inside[count - before - 1]
        return float(found.view(np.float32)), before + int(np.searchsorted(inside, found, "right"))

    def last(self, magnitude: float, count: int) -> NDArray[np.int64]:
        """Return the places, in order, of the last ``count`` (1 or more) magnitudes that are exactly this one."""
        bits = self._bits if self._sorted is None else self._compute().view(np.uint32)
        return np.flatnonzero(bits == np.float32(magnitude).view(np.uint32))[-count:]
