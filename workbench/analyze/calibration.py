"""Whether a model is as sure as it is right: the reliability diagram and the expected calibration error.

Images are put into 15 bins of equal width by the confidence of their answer; the error is the mean gap between
confidence and accuracy over the bins, weighted by their images (Guo et al. 2017, "On Calibration of Modern
Neural Networks").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.measure.flips import confidences

from .classes import Share, require_labels, wilson

Logits = NDArray[np.float32]
Floats = NDArray[np.float64]

BINS = 15


@dataclass(frozen=True)
class Bin:
    """Images whose confidence lies in ``low`` to ``high``: their mean confidence, and how many are right."""

    low: float
    high: float
    confidence: float
    accuracy: Share


@dataclass(frozen=True)
class Calibration:
    """The filled bins; ``error`` is the ECE, ``overconfidence`` mean confidence minus accuracy, both as shares."""

    bins: tuple[Bin, ...]
    error: float
    overconfidence: float


def confidence_of(logits: Logits) -> Floats:
    """Return the softmax probability of each image's answer, ``(N,)``; 0 where a logit is NaN."""
    return confidences(logits.astype(np.float64))


def right_of(logits: Logits, labels: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    """Return which images are told right, ``(N,)``; one with a NaN among its logits has no answer."""
    return np.asarray((logits.argmax(1) == labels) & ~np.isnan(logits).any(1))


def measure_calibration(logits: Logits, labels: NDArray[np.integer[Any]], bins: int = BINS) -> Calibration:
    """Return how well ``logits`` ``(N, classes)`` are calibrated; raises ``WorkbenchError`` without labels."""
    require_labels(labels, "Calibration")
    confidence, right = confidence_of(logits), right_of(logits, labels)
    # (low, high], as in the paper; a confidence of 0 goes to the first
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    count, hits = np.bincount(place, minlength=bins), np.bincount(place, right, bins)
    total = np.bincount(place, confidence, bins)
    filled = tuple(
        Bin(index / bins, (index + 1) / bins, float(total[index] / count[index]), wilson(hits[index], count[index]))
        for index in np.flatnonzero(count)
    )
    error = float(np.abs(total - hits).sum() / max(1, len(labels)))
    return Calibration(filled, error, float(confidence.mean() - right.mean()))
