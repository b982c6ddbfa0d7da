"""What is watched of each prediction: numbers of its image, and of its answer."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

#: Of images: mean, standard deviation, mean difference of neighbours. Of answers: the greatest probability,
#: and its distance to the second.
INPUTS = ("brightness", "contrast", "detail")
OUTPUTS = ("confidence", "margin")
FEATURES = (*INPUTS, *OUTPUTS)

Values = NDArray[np.float32]


def of_images(images: Values) -> Mapping[str, Values]:
    """Return the features of images ``(N, …)``; neighbours are along the last axis."""
    flat = images.reshape(len(images), -1)
    steps = np.abs(np.diff(images, axis=-1)).reshape(len(images), -1) if images.shape[-1] > 1 else flat[:, :1] * 0
    return {"brightness": flat.mean(1), "contrast": flat.std(1), "detail": steps.mean(1)}


def of_logits(logits: Values) -> Mapping[str, Values]:
    """Return the features of logits ``(N, classes)``; values that are not finite give NaN."""
    shares = probabilities(logits)
    if shares.shape[1] == 1:
        return {"confidence": shares[:, 0], "margin": shares[:, 0]}
    top = np.partition(shares, -2, axis=1)[:, -2:]
    return {"confidence": top[:, 1], "margin": top[:, 1] - top[:, 0]}


def probabilities(logits: Values) -> Values:
    """Return the softmax of logits ``(N, classes)``; NaN where a logit is not finite."""
    with np.errstate(invalid="ignore", over="ignore"):
        shifted = np.exp(logits - logits.max(1, keepdims=True))
        shares: Values = shifted / shifted.sum(1, keepdims=True)
    return shares
