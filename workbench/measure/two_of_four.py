"""Which weights have the pattern that sparse instructions need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

#: Share of zeros below which a layer is not called sparse.
_SPARSE = 0.4


def two_of_four(weights: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Return the layers whose weights ``(outputs, inputs, …)`` keep at most two of every four inputs."""
    return tuple(name for name, weight in weights.items() if weight.ndim > 1 and _has_pattern(weight.numpy()))


def _has_pattern(weight: NDArray[Any]) -> bool:
    outputs, inputs = weight.shape[:2]
    if inputs % 4 or not weight.size:
        return False
    kept = (weight != 0).view(np.uint8).reshape(outputs, inputs // 4, 4, -1)
    return bool(np.count_nonzero(kept) <= (1 - _SPARSE) * kept.size and kept.sum(axis=2, dtype=np.uint8).max() <= 2)
