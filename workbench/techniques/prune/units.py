"""Granularities: which weights of a tensor live and die together.

A weight is seen as a matrix, one row an output, the input channels and kernel positions along the
columns (channel by channel), as the papers on block sparsity do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .settings import PruneSettings


@dataclass(frozen=True)
class Units:
    """How a weight of ``shape`` whose outputs lie along ``axis`` falls into units."""

    shape: tuple[int, ...]
    axis: int
    settings: PruneSettings

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean of ``values`` (the weight's shape) over each unit, ``(units,)``."""
        return values.reshape(-1)

    def spread(self, chosen: Tensor) -> Tensor:
        """Return which weights (bool, the weight's shape) belong to the units ``chosen`` (bool, ``(units,)``)."""
        return chosen.reshape(self.shape)

    def members(self) -> Tensor:
        """Return the number of the unit that each weight belongs to (the weight's shape)."""
        return torch.arange(math.prod(self.shape)).reshape(self.shape)
