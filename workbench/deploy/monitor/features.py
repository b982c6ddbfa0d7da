"""What is watched of each prediction: numbers of its image, and of its answer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Of images: mean, standard deviation, mean difference of neighbours. Of answers: the greatest probability,
#: and its distance to the second.
INPUTS = ("brightness", "contrast", "detail")
OUTPUTS = ("confidence", "margin")
FEATURES = (*INPUTS, *OUTPUTS)

Values = NDArray[np.float32]

#: Rows of an image are left out while more values than ``VALUES`` and more rows than ``ROWS`` stay.
VALUES, ROWS = 256, 8


def thinning(shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Return the index that leaves out rows of images of ``shape`` ``(C, H, W)``: neighbouring ones tell the same.

    >>> np.zeros((4, 1, 28, 28))[thinning((1, 28, 28))].shape
    (4, 1, 10, 28)
    """
    if len(shape) < 2:
        return (...,)
    step = max(1, min(-(-math.prod(shape) // VALUES), shape[-2] // ROWS))
    return (..., slice(None, None, step), slice(None))


def of_images(images: Values) -> Mapping[str, Values]:
    """Return the features of images ``(N, …)``, thinned or whole; neighbours are along the last axis."""
    flat = images.reshape(len(images), -1)
    brightness = _means(flat)
    squares = np.einsum("ij,ij->i", flat, flat) / flat.shape[1]  # no centred copy, which the caches would not hold
    contrast = np.sqrt(np.maximum(squares - brightness * brightness, 0))
    if images.shape[-1] == 1:
        return {"brightness": brightness, "contrast": contrast, "detail": np.zeros_like(brightness)}
    steps = images[..., 1:] - images[..., :-1]
    return {"brightness": brightness, "contrast": contrast, "detail": _means(np.abs(steps, out=steps))}


def of_logits(logits: Values) -> Mapping[str, Values]:
    """Return the features of logits ``(N, classes)``; values that are not finite give NaN."""
    shares = np.ascontiguousarray(probabilities(logits).T)  # classes first: NumPy reduces them side by side
    first = shares.argmax(0)
    confidence, places = shares.max(0), np.arange(len(logits))
    if len(shares) == 1:
        return {"confidence": confidence, "margin": confidence}
    shares[first, places] = -1
    return {"confidence": confidence, "margin": confidence - shares.max(0)}


def probabilities(logits: Values) -> Values:
    """Return the softmax of logits ``(N, classes)``; NaN where a logit is not finite."""
    with np.errstate(invalid="ignore", over="ignore"):
        columns = logits.T.copy()
        columns -= columns.max(0)
        np.exp(columns, out=columns)
        columns /= columns.sum(0)
    return columns.T


def _means(images: Values) -> Values:
    """Return each image's mean; as a product, which is several times as quick as NumPy's sum of rows."""
    flat = images.reshape(len(images), -1)
    means: Values = flat @ np.full(flat.shape[1], 1 / flat.shape[1], np.float32)
    return means
