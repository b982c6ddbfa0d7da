"""Estimate a compressed model's figures from the first images of a fixed, nested sample order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from workbench.errors import WorkbenchError

from .estimate import Estimate

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Share of the sample drawn in proportion; the rest goes to small margins.
PROPORTIONAL = 0.5
#: Margin rank, as a share of the set, below which the sampling density no longer grows.
KNEE = 0.01
#: Two-sided error over all looks together.
ERROR = 0.05


@dataclass(frozen=True)
class Figures:
    """What one look at a compressed model says; ``top5`` is None with five classes or fewer."""

    accuracy: Estimate
    agreement: Estimate
    loss: Estimate
    top5: Estimate | None


class Sampler:
    """The sample order, the looks and the estimator for one baseline on one split.

    ``baseline_logits`` ``(N, C)``, ``labels`` ``(N,)``. The first ``n`` entries of ``order`` are the
    sample of size ``n``; ``looks`` are the sizes at which an estimate may be asked for.
    """

    def __init__(
        self,
        baseline_logits: NDArray[np.float32],
        labels: NDArray[np.int64],
        seed: int = 0,
        first: int = 64,
        split: str = "test",
    ) -> None:
        logits = np.asarray(baseline_logits, dtype=np.float64)
        self.labels = np.asarray(labels, dtype=np.int64)
        if logits.ndim != 2 or len(logits) != len(self.labels) or len(logits) == 0:
            raise WorkbenchError(
                f"The baseline's logits have shape {logits.shape}, and there are {len(self.labels)} labels; "
                "give one row of logits for each label, and at least one."
            )
        self.split = split
        self.predicted: Ints = logits.argmax(1)
        self._loss = _cross_entropy(logits, self.labels)
        self._margins = {
            "accuracy": _margin(logits, self.labels),
            "agreement": _margin(logits, self.predicted),
        }
        if logits.shape[1] > 5:
            self._margins["top5"] = _margin(logits, self.labels, 5)
        right = self.predicted == self.labels
        self.cells = _cells(self._margins["accuracy"], right, first)
        self.order: Ints = _order(self.cells, np.random.default_rng(seed))
        self.looks = _looks(len(self.labels), first)

    @cached_property
    def z(self) -> float:
        """Normal quantile shared by every look but the last, which is exact (Bonferroni)."""
        from scipy.special import ndtri

        return float(-ndtri(ERROR / 2 / max(1, len(self.looks) - 1)))

    def estimate(self, logits: NDArray[np.float32], n: int | None = None) -> Figures:
        """Return the figures of a compressed model from its logits on ``order[:n]``, in that order."""
        values = np.asarray(logits, dtype=np.float64)
        n = len(values) if n is None else n
        if n not in self.looks or len(values) < n:
            raise WorkbenchError(
                f"Cannot estimate from {len(values)} rows of logits at n = {n}; n must be one of {self.looks}."
            )
        values = values[:n]
        index = self.order[:n]
        labels, predicted = self.labels[index], self.predicted[index]
        winner = values.argmax(1)
        counts = np.bincount(self.cells[index], minlength=self._sizes.size)
        accuracy = self._share("accuracy", _margin(values, labels), winner == labels, index, counts)
        agreement = self._share("agreement", _margin(values, predicted), winner == predicted, index, counts)
        top5 = None
        if "top5" in self._margins:
            margin = _margin(values, labels, 5)
            top5 = self._share("top5", margin, margin > 0, index, counts)
        return Figures(accuracy, agreement, self._mean_loss(values, labels, index, counts), top5)

    @cached_property
    def _sizes(self) -> Ints:
        return np.bincount(self.cells)

    @cached_property
    def _kernel(self) -> Floats:
        """Weights that pool neighbouring cells, along the signed margin."""
        cells = np.arange(self._sizes.size)
        width = max(1.0, self._sizes.size / 16)
        return np.exp(-0.5 * ((cells[:, None] - cells[None, :]) / width) ** 2)

    def _share(
        self, name: str, margins: Floats, right: NDArray[np.bool_], index: Ints, counts: Ints
    ) -> Estimate:
        n, total = len(index), len(self.labels)
        if n == total:
            return Estimate.exact(float(right.mean()), n, self.split)
        cells, sizes = self.cells[index], self._sizes
        weights = sizes / total
        hits = np.bincount(cells, weights=right, minlength=sizes.size)
        seen = np.maximum(counts, 1)
        value = float(weights @ (hits / seen))
        before = self._margins[name]
        change = np.nan_to_num(margins - before[index], nan=0.0, posinf=0.0, neginf=0.0)
        pooled = self._kernel @ counts
        mean = self._kernel @ np.bincount(cells, weights=change, minlength=sizes.size) / pooled
        square = self._kernel @ np.bincount(cells, weights=change**2, minlength=sizes.size) / pooled
        spread = np.sqrt(np.maximum(square - mean**2, 0)) + 1e-12
        middle = np.bincount(self.cells, weights=before) / sizes
        predicted = 1 / (1 + np.exp(-np.clip(1.814 * (middle + mean) / spread, -30, 30)))
        rate = (self._kernel @ hits + 4 * predicted) / (pooled + 4)
        variance = float(np.sum(weights**2 * rate * (1 - rate) / seen * (1 - counts / sizes)))
        skew = float(np.max(weights / seen * (counts < sizes)))
        half = self.z * np.sqrt(variance) + self.z**2 / 6 * skew
        return self._clipped(value, value - half, value + half, right, index)

    def _clipped(self, value: float, low: float, high: float, right: NDArray[np.bool_], index: Ints) -> Estimate:
        n, total = len(index), len(self.labels)
        least, most = right.sum() / total, (right.sum() + total - n) / total
        low, high = max(low, float(least)), min(high, float(most))
        value = min(max(value, low), high)
        return Estimate(value, low, high, n, "sampled", self.split)

    def _mean_loss(self, logits: Floats, labels: Ints, index: Ints, counts: Ints) -> Estimate:
        n, total = len(index), len(self.labels)
        loss = _cross_entropy(logits, labels)
        if n == total:
            return Estimate.exact(float(loss.mean()), n, self.split)
        cells, sizes = self.cells[index], self._sizes
        weights = sizes / total
        change = loss - self._loss[index]
        seen = np.maximum(counts, 1)
        means = np.bincount(cells, weights=change, minlength=sizes.size) / seen
        value = float(self._loss.mean() + weights @ means)
        pooled = self._kernel @ counts
        first = self._kernel @ np.bincount(cells, weights=change, minlength=sizes.size) / pooled
        second = self._kernel @ np.bincount(cells, weights=change**2, minlength=sizes.size) / pooled
        spread = np.maximum(second - first**2, 0)
        half = self.z * 1.1 * float(np.sqrt(np.sum(weights**2 * spread / seen * (1 - counts / sizes))))
        return Estimate(value, max(0.0, value - half), value + half, n, "sampled", self.split)


def _margin(logits: Floats, classes: Ints, place: int = 1) -> Floats:
    """Return the logit of ``classes`` minus the ``place``-th largest of the others."""
    rows = np.arange(len(logits))
    others = logits.copy()
    others[rows, classes] = -np.inf
    rival = others.max(1) if place == 1 else -np.partition(-others, place - 1, axis=1)[:, place - 1]
    return np.asarray(logits[rows, classes] - rival)


def _cross_entropy(logits: Floats, labels: Ints) -> Floats:
    shifted = logits - logits.max(1, keepdims=True)
    return np.asarray(np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(labels)), labels])


def _cells(margins: Floats, right: NDArray[np.bool_], count: int) -> Ints:
    """Cut the images, sorted by signed margin, into cells of equal sampling density; none mixes right and wrong."""
    total = len(margins)
    rank = np.empty(total)
    rank[np.argsort(np.abs(margins), kind="stable")] = np.arange(total)
    knee = max(1.0, KNEE * total)
    steep = 1 / (rank + knee)
    density = PROPORTIONAL / total + (1 - PROPORTIONAL) * steep / steep.sum()
    cells = np.empty(total, dtype=np.int64)
    start = 0
    for part in (np.flatnonzero(~right), np.flatnonzero(right)):
        if not len(part):
            continue
        pieces = max(1, round(count * density[part].sum()))
        part = part[np.argsort(margins[part], kind="stable")]
        share = np.cumsum(density[part]) - density[part] / 2
        piece = np.minimum((share / density[part].sum() * pieces).astype(np.int64), pieces - 1)
        cells[part] = start + np.unique(piece, return_inverse=True)[1]
        start = cells[part].max() + 1
    return cells


def _order(cells: Ints, random: np.random.Generator) -> Ints:
    """Return all images, each cell shuffled, the cells taking turns (first turns spread by bit reversal)."""
    count = int(cells.max()) + 1
    turn = np.empty(len(cells))
    shift = random.random()
    for cell in range(count):
        members = np.flatnonzero(cells == cell)
        offset = (_reversed_bits(cell) + shift) % 1
        turn[random.permutation(members)] = np.arange(len(members)) + offset
    return np.argsort(turn, kind="stable")


def _reversed_bits(number: int) -> float:
    value, step = 0.0, 0.5
    while number:
        value += step * (number & 1)
        number >>= 1
        step /= 2
    return value


def _looks(total: int, first: int) -> tuple[int, ...]:
    looks = []
    size = first
    while size < total:
        looks.append(size)
        size *= 2
    return (*looks, total)
