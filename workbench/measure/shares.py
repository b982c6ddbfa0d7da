"""The interval of a share (accuracy, agreement) or a mean (loss) from one look at a stratified sample.

Functions take the sampled images along the last axis, in the order they were run, and any axes before
it: replaying many recipes at once is one call. ``sampling`` tells the method as a whole.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .strata import Flags, Floats, Look

#: Width, in 64ths of the cells, over which rates are pooled at the first look (one image a cell).
POOLING = 2.5
#: Images' worth of trust in the flip rates that the size of the change of margin predicts.
TRUST = 6.0
#: Flips among ``n`` images that are allowed for anywhere, though nothing points to them.
UNFORESEEN = 0.07
#: Weight of the skewness term: 1/3 takes the rates as known (Cornish-Fisher), 1 as unknown (score test).
SKEWNESS = 0.5
#: What Student's quantile is widened by for a mean, whose tails are heavy and seen on few images.
HEAVY_TAIL = 1.1
#: Standard logistic distribution's standard deviation.
LOGISTIC = np.pi / np.sqrt(3)


class Interval(NamedTuple):
    """Arrays of point estimates and both ends."""

    value: Floats
    low: Floats
    high: Floats


def estimate_share(look: Look, z: float, points: Floats, before: Floats, after: Floats, right: Flags) -> Interval:
    """Estimate the share of the whole set for which ``right`` holds.

    ``before`` ``(n,)`` and ``after`` ``(..., n)`` are margins under the baseline and the compressed
    model; ``right`` ``(..., n)`` is what is counted, true where ``after`` is positive (ties may differ);
    ``points`` ``(H, k)`` represent the baseline's margins in each cell; ``z`` is the normal quantile.
    """
    hits = look.totals(right.astype(np.float64))
    value = hits @ look.flip
    rates = _pool_rates(look, hits, _predict_rates(look, points, before, after))
    spread = look.counts * look.unseen * rates * (1 - rates)
    variance = spread @ look.flip**2
    third = (spread * (1 - 2 * rates)) @ (look.flip**3 * (2 * look.unseen - 1))
    skew = SKEWNESS * third / np.maximum(variance, 1e-15)
    one_image = 1 / len(look.strata.cells)
    low = value - _half(z, variance, -skew) - one_image
    high = value + _half(z, variance, skew) + one_image
    return _within_reach(look, right, value, low, high)


def estimate_mean(look: Look, t: float, before_mean: float, change: Floats) -> Interval:
    """Estimate a mean over the whole set from the ``change`` ``(..., n)`` against the baseline's known mean.

    Variance and third moment of the change are pooled over neighbouring cells; ``t`` is Student's quantile.
    """
    totals = look.totals(change)
    value = before_mean + totals @ look.flip
    kernel = look.kernel(_width(look))
    pooled = kernel @ look.counts
    mean, square, cube = ((look.totals(change**power) @ kernel) / pooled for power in (1, 2, 3))
    spread = np.maximum(square - mean**2, 0) * pooled / np.maximum(pooled - 1, 1)
    third = cube - 3 * mean * square + 2 * mean**3
    share = look.flip**2 * look.counts * look.unseen
    variance = spread @ share
    skew = (third @ (share * look.flip * np.abs(2 * look.unseen - 1))) / np.maximum(variance, 1e-30)
    t *= HEAVY_TAIL
    return Interval(value, value - _half(t, variance, -skew), value + _half(t, variance, skew))


def _predict_rates(look: Look, points: Floats, before: Floats, after: Floats) -> Floats:
    """Predict how often each cell's images end up right, from how far the sampled margins moved.

    The compressed margins are first brought back to the baseline's scale, since shrinking all logits
    flips nothing; the mean and standard deviation of what is left, pooled over neighbouring cells,
    carry every margin of the cell over zero or not, with a logistic's tails.
    """
    limit = 1e3 * max(float(np.abs(points).max()), 1e-6)
    after = np.clip(np.nan_to_num(after, nan=0.0), -limit, limit)
    weight = 1 / (np.abs(before) + 0.25 * np.median(np.abs(points)) + 1e-9) ** 2
    slope = (after @ (weight * before)) / max(float(before**2 @ weight), 1e-12)
    change = after / np.maximum(slope, 0.02)[..., None] - before
    kernel = look.kernel(_width(look))
    pooled = kernel @ look.counts
    mean = look.totals(change) @ kernel / pooled
    square = look.totals(change**2) @ kernel / pooled
    spread = np.sqrt(np.maximum(square - mean**2, 0)) + 1e-9
    moved = LOGISTIC * (points + mean[..., None]) / spread[..., None]
    return np.asarray((1 / (1 + np.exp(-np.clip(moved, -40, 40)))).mean(-1))


def _pool_rates(look: Look, hits: Floats, predicted: Floats) -> Floats:
    kernel = look.kernel(_width(look))
    rates = (hits @ kernel + TRUST * predicted) / (kernel @ look.counts + TRUST)
    floor = UNFORESEEN / len(look.index)
    return np.asarray(floor + np.clip(rates, 0, 1) * (1 - 2 * floor))


def _width(look: Look) -> float:
    """Cells to pool over: narrower as each cell holds more images."""
    cells = len(look.counts)
    return max(0.7, POOLING * cells / 64 * math.sqrt(cells / len(look.index)))


def _half(z: float, variance: Floats, skew: Floats) -> Floats:
    """Solve half² = z² (variance + skew · half): the variance grows with the flips that are supposed."""
    toward = z**2 * np.maximum(skew, 0)
    return np.asarray((toward + np.sqrt(toward**2 + 4 * z**2 * variance)) / 2)


def _within_reach(look: Look, right: Flags, value: Floats, low: Floats, high: Floats) -> Interval:
    """Cut the interval to what the images not yet run still allow."""
    total = len(look.strata.cells)
    hits = right.sum(-1)
    low = np.maximum(low, hits / total)
    high = np.minimum(high, (hits + total - len(look.index)) / total)
    return Interval(np.clip(value, low, high), low, high)
