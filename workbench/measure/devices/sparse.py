"""Which weights have the pattern that sparse instructions need."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

#: Share of zeros below which a layer is not called sparse.
_SPARSE = 0.4


def two_of_four(weights: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Return the layers whose weights ``(outputs, inputs, …)`` keep at most two of every four inputs."""
    found = []
    for name, weight in weights.items():
        if weight.ndim < 2 or weight.shape[1] % 4 or float((weight == 0).float().mean()) < _SPARSE:
            continue
        kept = (weight != 0).transpose(1, -1).reshape(-1, weight.shape[1] // 4, 4).sum(dim=2)
        if int(kept.max()) <= 2:
            found.append(name)
    return tuple(found)
