"""Latencies in bounded memory: a histogram whose buckets grow by a constant factor."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable

import numpy as np

_PER_OCTAVE, _LEAST_MS, _OCTAVES = 16, 0.001, 28
#: Durations that wait to be counted together: counting is a few operations, each with cold caches.
_WAITING = 4096


class Durations:
    """Counts of milliseconds from a microsecond to four minutes; a percentile is off by 2.2 % at most."""

    def __init__(self) -> None:
        self._counts = np.zeros(_PER_OCTAVE * _OCTAVES, np.int64)
        self._count, self._total_ms = 0, 0.0
        self._waiting = array("d")

    def add(self, milliseconds: Iterable[float]) -> None:
        """Count a block of durations."""
        self._waiting.extend(milliseconds)
        if len(self._waiting) >= _WAITING:
            self._tally()

    @property
    def count(self) -> int:
        """How many there were."""
        return self._count + len(self._waiting)

    @property
    def total_ms(self) -> float:
        """All of them together."""
        return self._total_ms + math.fsum(self._waiting)

    def percentile(self, percent: float) -> float:
        """Return the milliseconds below which ``percent`` of all durations lie; NaN before the first."""
        self._tally()
        if self._count == 0:
            return math.nan
        rank = max(1, math.ceil(self._count * percent / 100))
        place = int(np.searchsorted(np.cumsum(self._counts), rank))
        return _LEAST_MS * float(2 ** ((place + 0.5) / _PER_OCTAVE))

    def _tally(self) -> None:
        """Count those that wait."""
        if not self._waiting:
            return
        milliseconds, self._waiting = np.array(self._waiting), array("d")
        places = np.log2(np.maximum(milliseconds, _LEAST_MS) / _LEAST_MS) * _PER_OCTAVE
        self._counts += np.bincount(places.astype(int).clip(0, len(self._counts) - 1), minlength=len(self._counts))
        self._count += len(milliseconds)
        self._total_ms += float(milliseconds.sum())
