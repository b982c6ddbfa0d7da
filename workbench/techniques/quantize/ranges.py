"""The range that a grid spans, for each row of weights: minimum and maximum, or less where clipping pays.

Percentile and entropy as in ONNX Runtime and TensorRT (Migacz 2017, "8-bit Inference with TensorRT"),
least squared error as in Choukroun et al. 2019, "Low-bit Quantization of Neural Networks".
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .rows import Floats

Errors = Callable[[Floats], NDArray[np.float64]]

#: Shares of the full range that are tried first, and the steps around the best of them.
COARSE = np.linspace(1.0, 0.1, 10, dtype=np.float32)
FINE = np.array([-0.075, -0.05, -0.025, 0.025, 0.05, 0.075], np.float32)
#: Bins of a histogram of magnitudes, and how many thresholds are compared on it.
BINS, THRESHOLDS = 512, 48


def span(rows: Floats) -> tuple[Floats, Floats]:
    """Return minimum and maximum of each row."""
    return rows.min(axis=1), rows.max(axis=1)


def percentile_span(rows: Floats, percentile: float) -> tuple[Floats, Floats]:
    """Return the range that holds ``percentile`` percent of each row, both tails clipped alike."""
    tail = (1 - percentile / 100) / 2
    low, high = np.quantile(rows, [tail, 1 - tail], axis=1).astype(np.float32)
    return low, high


def best_shares(errors: Errors, count: int) -> Floats:
    """Return for each of ``count`` rows the share of its full range with the least error.

    ``errors`` gives the rows' squared errors for their shares. The full range is among those tried, so that
    the result is never worse than it.
    """
    best = np.ones(count, np.float32)
    least = errors(best)
    for share in COARSE[1:]:
        best, least = _better(best, least, np.full(count, share, np.float32), errors)
    start = best.copy()
    for step in FINE:
        best, least = _better(best, least, np.clip(start + step, 0.01, 1).astype(np.float32), errors)
    return best


def _better(
    best: Floats, least: NDArray[np.float64], tried: Floats, errors: Errors
) -> tuple[Floats, NDArray[np.float64]]:
    found = errors(tried)
    wins = found < least
    return np.where(wins, tried, best), np.where(wins, found, least)


def entropy_shares(rows: Floats, levels: int) -> Floats:
    """Return for each row the share of its largest magnitude beyond which clipping loses least information."""
    reach = np.abs(rows).max(axis=1)
    safe = np.where(reach > 0, reach, 1)
    places = np.minimum((np.abs(rows) / safe[:, None] * BINS).astype(np.int64), BINS - 1)
    offsets = np.arange(len(rows))[:, None] * BINS
    counts = np.bincount((places + offsets).ravel(), minlength=len(rows) * BINS).reshape(len(rows), BINS)
    return entropy_thresholds(counts.astype(np.float64), levels) / np.float32(BINS)


def entropy_thresholds(counts: NDArray[np.float64], levels: int) -> Floats:
    """Return how many bins to keep of each histogram of magnitudes, ``counts`` ``(rows, bins)``.

    What is beyond joins the last bin kept; the bins are then merged into ``levels`` and compared with what
    they were by the Kullback-Leibler divergence.
    """
    bins = counts.shape[1]
    best = np.full(len(counts), bins, np.float32)
    if levels >= bins:
        return best
    least = np.full(len(counts), np.inf)
    for kept in np.unique(np.linspace(levels, bins, THRESHOLDS).astype(int))[::-1]:
        divergence = _divergence(counts, int(kept), levels)
        best = np.where(divergence < least, np.float32(kept), best)
        least = np.minimum(divergence, least)
    return best


def _divergence(counts: NDArray[np.float64], kept: int, levels: int) -> NDArray[np.float64]:
    clipped = counts[:, :kept].copy()
    clipped[:, -1] += counts[:, kept:].sum(axis=1)
    starts = np.arange(levels) * kept // levels
    widths = np.diff(np.append(starts, kept))
    used = clipped > 0
    merged = np.add.reduceat(counts[:, :kept], starts, axis=1)
    holders = np.add.reduceat(used.astype(np.float64), starts, axis=1)
    means = merged / np.maximum(holders, 1)
    coarse = np.repeat(means, widths, axis=1) * used
    before = clipped / np.maximum(clipped.sum(axis=1, keepdims=True), 1)
    after = np.maximum(coarse / np.maximum(coarse.sum(axis=1, keepdims=True), 1), 1e-12)
    terms = np.where(used, before * np.log(np.maximum(before, 1e-300) / after), 0)
    return np.asarray(terms.sum(axis=1))
