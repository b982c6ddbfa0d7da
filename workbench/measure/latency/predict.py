"""Latency predicted from kernel times: each kernel interpolated in the table, then summed.

Within a signature the time is fitted as ``a + b·x + c·y + d·x·y`` (all ≥ 0; for a convolution: a call,
reading, writing, multiplying), and the fit is then corrected by the measured points nearby, so that it
is exact where something was measured. Weights that the cache cannot keep are charged by the byte
(``cache.py``). Kernels of signatures that were never measured are guessed from their arithmetic and traffic, and
the interval is wide.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from workbench.measure.estimate import Latency

from .cache import fetched, working_set
from .kernel import Kernel
from .signature import CONVOLUTIONS, PRODUCTS, Place, place
from .table import KernelTable, Point

#: The kernels of a related model, and what it was measured at.
Anchor = tuple[Sequence[Kernel], Latency]

#: Half-width of the 95 % interval as a share of the figure, from tests/bench/latency.py: with all
#: kernels' signatures measured, and for the part of the time whose signature was not.
KNOWN, UNKNOWN = 0.15, 0.6
#: A call of an operator that was never measured, in nanoseconds, and bytes it moves per nanosecond.
_CALL, _BANDWIDTH = 500.0, 24.0
#: How many times less room (or more) a network's weights may have in the cache than the chains it was measured on, and
#: what an anchor may be off beyond that: more is a mistake.
_CROWDINGS, _MOST = tuple(float(each) for each in np.geomspace(0.5, 2, 31)), 8.0
#: Multiply-accumulates per nanosecond of a product that was never measured.
_MACS = {"fp32": 30.0, "int8": 60.0}


@dataclass(frozen=True)
class KernelTime:
    """A kernel's predicted nanoseconds; ``known`` says that its signature was measured."""

    kernel: Kernel
    ns: float
    known: bool


@dataclass(frozen=True)
class _Fit:
    """Times of one signature as a function of its two coordinates."""

    scale: tuple[float, float]
    coefficients: np.ndarray
    places: np.ndarray  # (n, 2) logarithms of the coordinates
    ratios: np.ndarray  # (n,) measured ÷ fitted

    def at(self, point: Point) -> float:
        rough = float(_features(np.array([point], float) / self.scale)[0] @ self.coefficients)
        distance = np.square(self.places - np.log(np.maximum(point, 1))).sum(axis=1)
        weight = 1 / (distance + 1e-6) ** 1.5
        return rough * float(np.exp(np.log(self.ratios) @ weight / weight.sum()))


class _Interpolation:
    """What was worked out from one version of a table."""

    def __init__(self, version: int) -> None:
        self.version = version
        self._fits: dict[str, _Fit | None] = {}
        self._times: dict[Place, float] = {}
        self._last: tuple[Sequence[Kernel], tuple[KernelTime, ...]] = ((), ())

    def times(self, kernels: Sequence[Kernel], table: KernelTable) -> tuple[KernelTime, ...]:
        """Return each kernel's time by itself; at once for the network asked for last: a reason follows its figure."""
        asked, found = self._last
        if asked is not kernels:
            found = tuple(self._time(kernel, table) for kernel in kernels)
            if isinstance(kernels, tuple):  # what cannot change meanwhile
                self._last = kernels, found
        return found

    def _time(self, kernel: Kernel, table: KernelTable) -> KernelTime:
        where = place(kernel, table.block)
        signature, point = where
        if signature not in self._fits:
            points = table.points(signature)
            self._fits[signature] = _fit(points) if points else None
        fit = self._fits[signature]
        if fit is None:
            return KernelTime(kernel, _borrowed(kernel), False)
        if where not in self._times:
            self._times[where] = fit.at(point)
        return KernelTime(kernel, self._times[where], True)


#: Tables, as long as they live, and what was worked out from them.
_interpolations: weakref.WeakKeyDictionary[KernelTable, _Interpolation] = weakref.WeakKeyDictionary()


def kernel_times(kernels: Sequence[Kernel], table: KernelTable, crowding: float = 1.0) -> tuple[KernelTime, ...]:
    """Return each kernel's predicted time, in order, as one network runs them.

    Where the network's weights do not all stay in the cache, fetching its own is in a kernel's time. ``crowding``:
    how many times less room there is in the cache than when it was measured.
    """
    known = _interpolations.get(table)
    if known is None or known.version != table.version:
        known = _interpolations[table] = _Interpolation(table.version)
    weights = fetched(kernels)
    cost = table.ns_per_byte(round(crowding * working_set(kernels, weights)))
    times = known.times(kernels, table)
    if not cost:
        return times
    return tuple(
        KernelTime(time.kernel, time.ns + size * cost, time.known) for time, size in zip(times, weights, strict=True)
    )


def predict_latency(
    kernels: Sequence[Kernel],
    table: KernelTable,
    *,
    anchor: Anchor | None = None,
) -> Latency:
    """Predict the latency of ``kernels``, as kind "predicted".

    ``anchor``: the kernels and the *measured* latency of a related model (the baseline). What it takes more than
    predicted is laid to a crowded cache, as far as that goes; the ratio of measured to predicted that is left corrects
    this prediction (by half, if only one of the two is int8). The interval is what the measuring command observed on
    recipes that nothing was fitted on.
    """
    crowding, ratio = _correction(anchor, kernels, table) if anchor is not None else (1.0, 1.0)
    times = kernel_times(kernels, table, crowding)
    total = table.run_ns + sum(entry.ns for entry in times)
    unknown = sum(entry.ns for entry in times if not entry.known) / total
    total *= ratio
    share = KNOWN * (1 - unknown) + UNKNOWN * unknown
    ms = total / 1e6
    batch = kernels[0].batch if kernels else 1
    device = table.device
    figure = Latency(device.name, device.runtime, batch, ms, ms / (1 + share), ms * (1 + share), "predicted")
    if unknown > 0.2:
        reason = f"{unknown * 100:.0f} % of the time is in kernels not measured on this machine yet."
        return replace(figure, reason=reason)
    return figure


def _correction(anchor: Anchor, kernels: Sequence[Kernel], table: KernelTable) -> tuple[float, float]:
    """Return how crowded the cache is and measured ÷ predicted, by which the anchor is predicted as measured.

    The ratio's square root for kernels of another number type.
    """
    known, measured = anchor
    ns = measured.ms * 1e6

    def predicted(crowding: float) -> float:
        return table.run_ns + sum(entry.ns for entry in kernel_times(known, table, crowding))

    times = [predicted(each) for each in _CROWDINGS]
    if times[0] < ns < times[-1]:
        crowding = float(np.interp(ns, times, _CROWDINGS))
    else:  # of those that explain it as well, as in a network that any cache keeps, the one that claims the least
        found = zip(_CROWDINGS, times, strict=True)
        crowding, _ = min(found, key=lambda each: (abs(each[1] - ns), abs(math.log(each[0]))))
    ratio = min(_MOST, max(1 / _MOST, ns / predicted(crowding)))
    return crowding, ratio if _is_int8(known) == _is_int8(kernels) else math.sqrt(ratio)


def _is_int8(kernels: Sequence[Kernel]) -> bool:
    return any(kernel.dtype == "int8" for kernel in kernels)


def _features(points: np.ndarray) -> np.ndarray:
    first, second = points.T
    return np.stack([np.ones_like(first), first, second, first * second], axis=1)


def _fit(points: Mapping[Point, float]) -> _Fit:
    places = np.array(list(points), float)
    times = np.maximum(list(points.values()), 1.0)  # what the profiler adds, taken off, may leave nothing
    scale = (max(1.0, float(places[:, 0].max())), max(1.0, float(places[:, 1].max())))
    features = _features(places / scale)
    coefficients = _least_squares(features / times[:, None])
    ratios = times / np.maximum(features @ coefficients, 1.0)
    return _Fit(scale, coefficients, np.log(np.maximum(places, 1)), ratios)


def _borrowed(kernel: Kernel) -> float:
    """Guess a kernel of a signature that was never measured."""
    if kernel.type in PRODUCTS or kernel.type in CONVOLUTIONS:
        return _CALL + kernel.macs / _MACS[kernel.dtype] + kernel.bytes / _BANDWIDTH
    if kernel.type == "View":
        return _CALL / 4
    return _CALL + kernel.bytes / _BANDWIDTH


def _least_squares(features: np.ndarray) -> np.ndarray:
    """Return the coefficients ≥ 0 for which ``features @ coefficients`` is nearest to one.

    With four of them, trying every choice of which are zero is quick and exact.
    """
    best, least = np.zeros(features.shape[1]), math.inf
    for chosen in range(1, 2 ** features.shape[1]):
        columns = [axis for axis in range(features.shape[1]) if chosen >> axis & 1]
        part = features[:, columns]
        found = np.linalg.lstsq(part, np.ones(len(part)), rcond=None)[0]
        error = float(np.square(part @ found - 1).sum())
        if (found >= 0).all() and error < least - 1e-12:
            best, least = np.zeros(features.shape[1]), error
            best[columns] = found
    return best
