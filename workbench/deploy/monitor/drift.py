"""Whether a window of predictions differs from the reference by more than chance.

Numbers are compared by the two-sample Kolmogorov–Smirnov test, classes by the chi-square test of
homogeneity; both allow for the reference being a sample itself. The population stability index tells how
far they moved: below 0.1 little, above 0.25 much (Siddiqi 2006, "Credit Risk Scorecards").
"""

from __future__ import annotations

import math
from dataclasses import dataclass

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


class Distribution:
    """The reference of one number: its sorted sample, and the share of it in each of its deciles."""

    def __init__(self, sample: NDArray[np.float64]) -> None:
        self.sample, self.mean = sample, float(sample.mean())
        self._edges = np.unique(np.quantile(sample, np.linspace(0, 1, BINS + 1)[1:-1]))
        self._expected = self._binned(sample)

    def compare(self, feature: str, window: NDArray[np.floating]) -> Drift:
        """Compare it with the values of a ``window``; NaN counts as greater than all."""
        values = np.sort(np.nan_to_num(window.astype(np.float64), nan=np.inf))
        n, m = len(self.sample), len(values)
        steps = np.arange(m + 1) / m
        # between two values of the window its distribution function is flat: the ends of each step suffice
        over = steps[1:] - np.searchsorted(self.sample, values, "right") / n
        under = np.searchsorted(self.sample, values, "left") / n - steps[:-1]
        distance = max(0.0, float(over.max()), float(under.max()))
        finite = values[np.isfinite(values)]
        shift = float(finite.mean()) - self.mean if len(finite) else math.nan
        return Drift(feature, _psi(self._expected, self._binned(values)), distance, _smirnov(distance, n, m), shift)

    def _binned(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        return np.bincount(np.searchsorted(self._edges, values, "right"), minlength=len(self._edges) + 1)


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
    return Drift("class", _psi(reference, window), distance, p, 0.0)


def _psi(expected: NDArray[np.integer], found: NDArray[np.integer]) -> float:
    before = np.maximum(expected / expected.sum(), _LEAST)
    after = np.maximum(found / found.sum(), _LEAST)
    return float(((after - before) * np.log(after / before)).sum())


def _smirnov(distance: float, n: int, m: int) -> float:
    """Return the asymptotic p-value of the two-sample statistic, with Stephens' correction for small samples."""
    root = math.sqrt(n * m / (n + m))
    value = (root + 0.12 + 0.11 / root) * distance
    if value < 0.3:
        return 1.0
    terms = [(-1) ** (k - 1) * math.exp(-2 * k * k * value * value) for k in range(1, 6)]
    return float(min(1.0, max(0.0, 2 * sum(terms))))
