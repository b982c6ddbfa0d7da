"""What the page is sent of a layer in depth: as many boxes as can be told apart, in few digits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.analyze.depth import Depth, Outputs, Weights

#: Boxes drawn of a layer at most; with more channels each stands for several that follow each other.
MOST = 64


def for_page(depth: Depth) -> dict[str, Any]:
    """Return plain data of ``depth``; ``each`` tells how many channels a box stands for.

    A box of several channels reaches from their least to their greatest weight; its quartiles are the medians
    of theirs.
    """
    each = -(-max(len(depth.before.channels), 1) // MOST)
    return {
        **depth.to_json(),
        "each": each,
        "kept": len(depth.after.channels),
        "before": _weights(depth.before, each),
        "after": _weights(depth.after, each),
        "outputs_before": _outputs(depth.outputs_before, depth.before, each),
        "outputs_after": _outputs(depth.outputs_after, depth.after, each),
    }


def _weights(weights: Weights, each: int) -> dict[str, Any]:
    boxes = np.asarray(weights.boxes, np.float64).reshape(len(weights.boxes), -1)
    return {
        "channels": list(weights.channels[::each]),
        "boxes": [_short(_joined(part)) for part in _parts(boxes, each)],
        "outliers": weights.outliers,
        "effective_rank": weights.effective_rank,
        "full_rank": weights.full_rank,
    }


def _outputs(outputs: Outputs | None, weights: Weights, each: int) -> dict[str, Any] | None:
    if outputs is None or len(outputs.low) != len(weights.channels):
        return None  # it has no output for each channel of the weight
    low, high = (_parts(np.asarray(values, np.float64), each) for values in (outputs.low, outputs.high))
    return {
        "low": _short([part.min() for part in low]),
        "high": _short([part.max() for part in high]),
        "zeros": outputs.zeros,
    }


def _parts(values: NDArray[np.float64], each: int) -> list[NDArray[np.float64]]:
    return [values[start : start + each] for start in range(0, len(values), each)]


def _joined(boxes: NDArray[np.float64]) -> list[float]:
    return [boxes[:, 0].min(), *np.median(boxes[:, 1:-1], axis=0), boxes[:, -1].max()]


def _short(values: Sequence[float]) -> list[float]:
    return [float(f"{value:.3g}") for value in values]
