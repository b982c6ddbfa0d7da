"""The range that a grid spans, for each row of weights: minimum and maximum, or less where clipping pays.

Percentile and entropy as in ONNX Runtime and TensorRT (Migacz 2017, "8-bit Inference with TensorRT"),
least squared error as in Choukroun et al. 2019, "Low-bit Quantization of Neural Networks".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from .rows import Floats

#: Gives each row's squared error for each of some shares, both ``(tries, rows)``.
Errors = Callable[[Floats], NDArray[np.floating]]

#: Shares of the full range that are tried first, a few at a time, and the steps around the best of them.
COARSE = np.split(np.linspace(1.0, 0.1, 10, dtype=np.float32), (2, 4, 6, 8))
FINE = np.array([0, -0.075, -0.05, -0.025, 0.025, 0.05, 0.075], np.float32)
#: Bins of a histogram of magnitudes, and how many thresholds are compared on it.
BINS, THRESHOLDS = 512, 48
#: Thresholds for a channel's weights, which are few: half of them where there are many levels, clipped hardly ever.
FEW_THRESHOLDS, MANY_LEVELS = 24, 64
#: Weights of a row from which on its histogram has all the bins; below, half of them.
MANY_WEIGHTS = 4096
#: Of a long row's weights in order, every so manieth tells where to look closer, and then which step is best.
STRIDES, LONG = (4, 2), 128
#: A row whose error has risen to this many times its least is not clipped further: clipping only adds to it.
GIVEN_UP = 4


def span(rows: Floats) -> tuple[Floats, Floats]:
    """Return minimum and maximum of each row."""
    return rows.min(axis=1), rows.max(axis=1)


def percentile_span(rows: Floats, percentile: float) -> tuple[Floats, Floats]:
    """Return the range that holds ``percentile`` percent of each row, both tails clipped alike."""
    tail = (1 - percentile / 100) / 2
    low, high = np.quantile(rows, [tail, 1 - tail], axis=1).astype(np.float32)
    return low, high


def sketches_of(rows: Floats, errors: Callable[[Floats, Floats], NDArray[np.floating]]) -> tuple[Errors, Errors] | None:
    """Return ``errors`` of rows and shares, of a fourth and of half of each row; None where rows are too short.

    The parts are taken evenly from the weights in order, which says more than as many taken at random.
    """
    if rows.shape[1] < LONG:
        return None
    ordered = np.sort(rows, axis=1)
    fourth, half = (np.ascontiguousarray(ordered[:, step // 2 :: step]) for step in STRIDES)
    return partial(errors, fourth), partial(errors, half)


def best_shares(errors: Errors, count: int, sketches: tuple[Errors, Errors] | None = None) -> Floats:
    """Return for each of ``count`` rows the share of its full range with the least error.

    ``sketches`` give errors roughly and nearly, for less, and choose among the coarse and the fine steps where they
    are given; the full range is compared with what they chose, so that the result is never worse.
    """
    roughly, nearly = (errors, errors) if sketches is None else sketches
    best = np.ones(count, np.float32)
    least = np.full(count, np.inf)
    trying = np.ones(count, np.bool_)
    for shares in COARSE:
        for share, found in zip(shares, roughly(np.repeat(shares[:, None], count, axis=1)), strict=True):
            wins = trying & (found < least)
            best[wins], least[wins] = share, found[wins]
            trying &= found < GIVEN_UP * least
        if not trying.any():
            break
    best = _best_of(np.clip(best + FINE[:, None], 0.01, 1).astype(np.float32), nearly)
    return best if sketches is None else _best_of(np.stack([np.ones_like(best), best]), errors)


def _best_of(shares: Floats, errors: Errors) -> Floats:
    """Return of ``shares`` ``(tries, rows)`` each row's with the least error, the first of those."""
    return np.asarray(np.take_along_axis(shares, errors(shares).argmin(axis=0)[None], axis=0)[0])


def entropy_shares(rows: Floats, levels: int) -> Floats:
    """Return for each row the share of its largest magnitude beyond which clipping loses least information."""
    magnitudes = np.abs(rows)
    reach = magnitudes.max(axis=1)
    bins = BINS if rows.shape[1] >= MANY_WEIGHTS else BINS // 2
    scale = np.float32(bins) / np.where(reach > 0, reach, 1)
    magnitudes *= scale[:, None]
    places = np.minimum(magnitudes, np.float32(bins - 1), out=magnitudes).astype(np.int32)
    places += np.arange(len(rows), dtype=np.int32)[:, None] * np.int32(bins)
    counts = np.bincount(places.ravel(), minlength=len(rows) * bins).reshape(len(rows), bins)
    thresholds = FEW_THRESHOLDS if levels < MANY_LEVELS else FEW_THRESHOLDS // 2
    return entropy_thresholds(counts, levels, thresholds) / np.float32(bins)


def entropy_thresholds(counts: NDArray[np.number], levels: int, thresholds: int = THRESHOLDS) -> Floats:
    """Return how many bins to keep of each histogram of magnitudes, ``counts`` ``(rows, bins)``.

    What is beyond joins the last bin kept; the bins are then merged into ``levels`` and compared with what
    they were by the Kullback-Leibler divergence. So many ``thresholds`` are tried, the most bins first.
    """
    bins = counts.shape[1]
    if levels >= bins:
        return np.full(len(counts), bins, np.float32)
    kept = np.unique(np.linspace(levels, bins, thresholds).astype(int))[::-1]
    return np.asarray(kept[_divergences(counts, kept, levels).argmin(axis=0)], np.float32)


def _divergences(counts: NDArray[np.number], kept: NDArray[np.int_], levels: int) -> Floats:
    """Return the divergence of each row for each number of bins ``kept``, ``(thresholds, rows)``.

    A merged bin spreads its count evenly over its bins that hold any, so the sum of p log q over them needs
    only sums, which are differences of running ones.
    """
    columns = np.ascontiguousarray(counts.T)  # bins first: what is picked are whole rows
    total = np.maximum(columns.sum(axis=0), 1)
    running, used, terms = (_running(part) for part in (columns, columns > 0, _times_log(columns)))
    edges = np.append(np.arange(levels)[None] * kept[:, None] // levels, kept[:, None], axis=1)
    merged, holders = _between(running, edges), _between(used, edges)
    inside, last = running[kept], columns[kept - 1]
    beyond = total - inside
    holders[:, -1] += (last == 0) & (beyond > 0)
    # in the same array all the way: these are the large ones
    spread = np.divide(merged, np.maximum(holders, 1, out=holders), out=holders)
    spread /= np.maximum(inside, 1)[:, None]
    merged[:, -1] += beyond  # what is beyond has joined the last bin
    np.log(np.maximum(spread, np.float32(1e-12), out=spread), out=spread)
    cross = np.multiply(merged, spread, out=spread).sum(axis=1)
    own = terms[kept - 1] + _times_log(last + beyond)
    return np.asarray((own - cross) / total - np.log(total), np.float32)


def _between(running: Floats, edges: NDArray[np.int_]) -> Floats:
    """Return what lies between neighbouring ``edges`` ``(thresholds, edges)`` of running sums."""
    at_edges = running.take(edges, axis=0)
    return at_edges[:, 1:] - at_edges[:, :-1]


def _running(columns: NDArray[np.generic]) -> Floats:
    """Return the sums over the first 0, 1, … bins of each column."""
    sums = np.zeros((len(columns) + 1, columns.shape[1]), np.float32)
    np.cumsum(columns, axis=0, out=sums[1:], dtype=np.float32)
    return sums


def _times_log(counts: NDArray[np.number]) -> NDArray[np.floating]:
    if counts.dtype.kind == "i" and int(counts.max(initial=0)) < counts.size:
        whole = np.arange(int(counts.max(initial=0)) + 1, dtype=np.float32)  # a weight's bins hold few
        return np.asarray(_times_log(whole)[counts])
    return np.asarray(counts * np.log(np.maximum(counts, 1)))
