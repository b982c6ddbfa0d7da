"""The distribution of a layer's weights, before and after a recipe."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, eq=False)
class WeightSummary:
    """Histograms of one layer over common bins ``edges`` ``(bins + 1,)`` float32.

    ``before`` and ``after`` are counts ``(bins,)``; ``after`` leaves out the weights that are exactly
    zero where the layer was pruned (their share is ``sparsity``). ``threshold`` is the magnitude up to
    which weights were pruned. ``grid`` holds the values the quantizer can take, of the channel with
    the median scale where every channel has its own; empty where the layer is not on a grid.
    """

    layer: str
    edges: NDArray[np.float32]
    before: NDArray[np.int64]
    after: NDArray[np.int64]
    threshold: float | None
    grid: NDArray[np.float32]
    sparsity: float
    bits: int | None


def summarize_weights(
    layer: str,
    before: Tensor,
    after: Tensor,
    threshold: float | None = None,
    grid: NDArray[np.float32] | None = None,
    bits: int | None = None,
    bins: int = 64,
) -> WeightSummary:
    """Return the summary of a layer's weight ``before`` and ``after`` a recipe."""
    low, high = (float(bound) for bound in before.aminmax())
    reach = max(abs(low), abs(high)) or 1.0
    shown = after[after != 0] if threshold is not None else after
    return WeightSummary(
        layer=layer,
        edges=np.linspace(-reach, reach, bins + 1, dtype=np.float32),
        before=_histogram(before, bins, reach),
        after=_histogram(shown, bins, reach),
        threshold=threshold,
        grid=np.empty(0, np.float32) if grid is None else grid,
        sparsity=1 - int(torch.count_nonzero(after)) / max(1, after.numel()),
        bits=bits,
    )


def _histogram(values: Tensor, bins: int, reach: float) -> NDArray[np.int64]:
    # a coarse grid may reach past the largest weight
    counts: NDArray[np.int64] = torch.histc(values.clamp(-reach, reach), bins, -reach, reach).long().numpy()
    return counts
