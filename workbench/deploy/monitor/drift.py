"""Whether a window of predictions differs from the reference by more than chance.

Numbers are compared by the two-sample Kolmogorov–Smirnov test, classes by the chi-square test of
homogeneity; both allow for the reference being a sample itself. The population stability index tells how
far they moved: below 0.1 little, above 0.25 much (Siddiqi 2006, "Credit Risk Scorecards").
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

#: Bins of the stability index: the reference's deciles.
BINS = 10
_LEAST = 1e-4  # an empty bin's share, so that the index stays finite


@dataclass(frozen=True)
class Drift:
    """How a window differs: ``psi`` and ``distance`` (of the distribution functions, or of the class shares)
    tell by how much, ``p`` how often chance alone does so; ``shift`` is the change of the mean.
    """

    feature: str
    psi: float
    distance: float
    p: float
    shift: float


class Distributions:
    """The reference of several numbers: their sorted samples ``(K, N)``, and the shares of these in their deciles.

    They are compared together, since a window's statistics are many small operations with cold caches.
    """

    def __init__(self, samples: Mapping[str, NDArray[np.float64]]) -> None:
        self.names, self._samples = tuple(samples), np.array(list(samples.values()))
        self._means = self._samples.mean(1)
        self._edges = np.quantile(self._samples, np.linspace(0, 1, BINS + 1)[1:-1], axis=1).T.copy()
        self._shares = _shares(self._binned(self._samples))

    def compare(self, windows: Mapping[str, NDArray[np.floating]]) -> list[Drift]:
        """Compare each with as many values of a window; NaN counts as greater than all."""
        values = np.array([windows[name] for name in self.names], np.float64)
        values.sort(1)  # NaN last
        n, m = self._samples.shape[1], values.shape[1]
        steps = _steps(m)
        # between two values of the window its distribution function is flat: the ends of each step suffice
        over = (steps[1:] - _ranks(self._samples, values, "right") / n).max(1)
        under = (_ranks(self._samples, values, "left") / n - steps[:-1]).max(1)
        psi, means = _stability(self._shares, _shares(self._binned(values))), _finite_means(values)
        rows = zip(
            self.names, psi.tolist(), np.maximum(over, under).tolist(), (means - self._means).tolist(), strict=True
        )
        return [Drift(name, index, far, _smirnov(far, n, m), shift) for name, index, far, shift in rows]

    def _binned(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return how many of each row of sorted ``values`` lie in each bin; one on an edge lies in the bin above."""
        ends = np.zeros((len(values), BINS + 1), np.int64)
        ends[:, 1:-1], ends[:, -1] = _ranks(values, self._edges, "left"), values.shape[1]
        return ends[:, 1:] - ends[:, :-1]


def compare_classes(reference: NDArray[np.int64], window: NDArray[np.int64]) -> Drift:
    """Compare counts by class."""
    from scipy.special import chdtrc

    seen = (reference + window) > 0
    first, second = reference[seen].astype(float), window[seen].astype(float)
    share = second.sum() / (first.sum() + second.sum())
    expected = (first + second) * share
    other = (first + second) * (1 - share)
    statistic = float((((second - expected) ** 2) / expected + ((first - other) ** 2) / other).sum())
    p = float(chdtrc(max(1, int(seen.sum()) - 1), statistic))
    distance = float(np.abs(first / first.sum() - second / second.sum()).sum() / 2)
    return Drift("class", float(_stability(_shares(reference), _shares(window))), distance, p, 0.0)


def _stability(before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the population stability index of shares along the last axis."""
    index: NDArray[np.float64] = ((after - before) * np.log(after / before)).sum(-1)
    return index


def _shares(counts: NDArray[np.integer]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = np.maximum(counts / counts.sum(-1, keepdims=True), _LEAST)
    return shares


def _ranks(
    ordered: NDArray[np.float64], values: NDArray[np.float64], side: Literal["left", "right"]
) -> NDArray[np.int64]:
    """Return where each row of ``values`` would stand in the same row of ``ordered``."""
    return np.array([row.searchsorted(entry, side) for row, entry in zip(ordered, values, strict=True)])


@lru_cache(maxsize=16)
def _steps(m: int) -> NDArray[np.float64]:
    return np.arange(m + 1) / m


def _finite_means(ordered: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of the finite of each row of sorted values, NaN where there is none."""
    with np.errstate(invalid="ignore"):  # infinities of both signs
        means: NDArray[np.float64] = ordered.mean(1)
    for place in np.flatnonzero(~np.isfinite(means)):
        finite = ordered[place][np.isfinite(ordered[place])]
        means[place] = finite.mean() if len(finite) else math.nan
    return means


def _smirnov(distance: float, n: int, m: int) -> float:
    """Return the asymptotic p-value of the two-sample statistic, with Stephens' correction for small samples."""
    root = math.sqrt(n * m / (n + m))
    value = (root + 0.12 + 0.11 / root) * distance
    if value < 0.3:
        return 1.0
    terms = [(-1) ** (k - 1) * math.exp(-2 * k * k * value * value) for k in range(1, 6)]
    return float(min(1.0, max(0.0, 2 * sum(terms))))
