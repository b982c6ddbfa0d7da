"""Synthetic sets of images: a baseline's logits, and what compressing does to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Population:
    """Baseline ``logits`` ``(N, C)`` and ``labels`` ``(N,)``; the baseline is right on about nine in ten."""

    logits: Logits
    labels: NDArray[np.int64]


def make_baseline(images: int, seed: int, classes: int = 10) -> Population:
    """Return logits whose margins spread like a trained network's: most large, some near zero."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, images)
    logits = 1.5 * random.standard_normal((images, classes))
    logits[np.arange(images), labels] += random.gamma(3.0, 3.0, images)
    return Population(logits.astype(np.float32), labels)


def perturb(logits: Logits, sigma: float, seed: int) -> Logits:
    """Return a copy with noise of standard deviation ``sigma`` on every logit."""
    noise = np.random.default_rng(seed).standard_normal(logits.shape)
    return (logits + sigma * noise).astype(np.float32)


def garble(logits: Logits, share: float, seed: int) -> Logits:
    """Return a copy in which a random ``share`` of the images, whatever their margin, got another's logits."""
    random = np.random.default_rng(seed)
    result = logits.copy()
    chosen = np.flatnonzero(random.random(len(logits)) < share)
    result[chosen] = logits[random.permutation(chosen)]
    return result


def collapse(logits: Logits, share: float, seed: int) -> Logits:
    """Return a copy in which class 0 wins on a random ``share`` of the images: a wrecked model."""
    chosen = np.random.default_rng(seed).random(len(logits)) < share
    result = 0.2 * logits
    result[chosen, 0] = result[chosen].max(1) + 1
    return result.astype(np.float32)
