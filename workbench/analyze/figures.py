"""From logits to what is kept of each image, and from that to figures with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.measure.answers import Answers
from workbench.measure.sampling import Sampler
from workbench.measure.shares import Interval
from workbench.measure.strata import Look


def judge(
    logits: NDArray[np.float32], dense: NDArray[np.float32], labels: NDArray[np.int64], predicted: NDArray[np.int64]
) -> dict[str, NDArray[Any]]:
    """Return the arrays of ``ANSWERS`` ``(cells, n)`` for ``logits`` ``(cells, n, C)``; ``dense`` are ``(n, C)``."""
    cells, n, classes = logits.shape
    flat = np.ascontiguousarray(logits.reshape(-1, classes))
    answers = Answers(flat, np.tile(labels, cells), np.tile(predicted, cells))
    with np.errstate(invalid="ignore", over="ignore"):
        change = np.square(logits - dense).mean(-1)
        mine, theirs = log_softmax(dense), log_softmax(logits)
        divergence = (np.exp(mine) * (mine - theirs)).sum(-1)
    found = {
        "right": answers.right("accuracy"),
        "margin": answers.margin("accuracy"),
        "agrees": answers.right("agreement"),
        "agree_margin": answers.margin("agreement"),
        "loss": answers.loss,
        "kl": np.where(np.isnan(divergence), np.inf, np.maximum(divergence, 0)),
        "logit_mse": np.where(np.isnan(change), np.inf, change),
    }
    return {
        name: values.reshape(cells, n).astype(values.dtype if values.dtype == np.bool_ else np.float32)
        for name, values in found.items()
    }


def log_softmax(logits: NDArray[np.float32]) -> NDArray[Any]:
    """Return the logarithm of the probabilities along the last axis, in float64."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


def figures_of(sampler: Sampler, answers: Mapping[str, NDArray[Any]], look: Look | None) -> dict[str, Interval]:
    """Return the accuracy and the figures of ``MEASURED`` from arrays ``(cells, n)``; ``look`` None: of all images."""
    shares = {"accuracy": ("margin", "right"), "agreement": ("agree_margin", "agrees")}
    if look is None:
        means = {name: answers[right].mean(-1) for name, (_, right) in shares.items()}
        means |= {name: answers[name].mean(-1, dtype=np.float64) for name in ("loss", "kl", "logit_mse")}
        return {name: Interval(mean, mean, mean) for name, mean in means.items()}
    found = {
        name: sampler.share(name, look, answers[margin].astype(np.float64), answers[right])
        for name, (margin, right) in shares.items()
    }
    found["loss"] = sampler.mean_loss(look, answers["loss"].astype(np.float64))
    for name in ("kl", "logit_mse"):
        found[name] = sampler.mean(look, answers[name].astype(np.float64))
    return found
