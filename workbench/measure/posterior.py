"""A layer's posterior as a picture: some of its weights from the least certain to the most, each a distribution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

#: Weights that are drawn, at most.
COLUMNS = 160


@dataclass(frozen=True, eq=False)
class PosteriorSummary:
    """``shown`` is ``(4, weights)`` float64: place in the flattened weight, mean, deviation, value after.

    The weights shown are evenly spaced among all ``count`` of the layer, in order of their signal-to-noise ratio,
    |mean| / deviation. ``kept`` is the share of all that are not zero after.
    """

    layer: str
    shown: NDArray[np.float64]
    count: int
    kept: float

    @property
    def signals(self) -> NDArray[np.float64]:
        """Signal-to-noise ratio of each weight shown, rising."""
        return np.asarray(np.abs(self.shown[1]) / self.shown[2])


def summarize_posterior(layer: str, mean: Tensor, variance: Tensor, after: Tensor) -> PosteriorSummary:
    """Return what is drawn of a layer whose weights have these means and variances, and are ``after`` now."""
    means = mean.detach().double().flatten().numpy()
    deviations = np.sqrt(np.maximum(variance.detach().double().flatten().numpy(), np.finfo(np.float64).tiny))
    values = after.detach().double().flatten().numpy()
    order = np.argsort(np.abs(means) / deviations, kind="stable")
    count = len(order)
    places = order[np.unique(np.linspace(0, count - 1, min(COLUMNS, count)).round().astype(int))] if count else order
    shown = np.stack([places.astype(np.float64), means[places], deviations[places], values[places]])
    return PosteriorSummary(layer, shown, count, float(np.count_nonzero(values)) / max(1, count))
