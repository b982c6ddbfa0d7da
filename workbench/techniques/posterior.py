"""What training found likely of each weight."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Posterior:
    """A normal distribution for each weight: ``mean`` and ``variance``, of the weight's shape.

    The mean is that before anything was dropped.
    """

    mean: Tensor
    variance: Tensor

    def sliced(self, axis: int, keep: Tensor) -> Posterior:
        """Return the same with only ``keep`` along ``axis``."""
        return Posterior(self.mean.index_select(axis, keep), self.variance.index_select(axis, keep))
