"""Granularities: which weights of a tensor live and die together.

A weight is seen as a matrix, one row an output, the input channels and kernel positions along the
columns (channel by channel), as the papers on block sparsity do: Narang et al. 2017, "Block-Sparse
Recurrent Neural Networks"; kernels: Mao et al. 2017, "Exploring the Regularity of Sparse Structure".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .settings import PruneSettings


@dataclass(frozen=True)
class Units:
    """How a weight of ``shape`` whose outputs lie along ``axis`` falls into units.

    Blocks at the right and lower edge are smaller where the block's size does not divide.
    """

    shape: tuple[int, ...]
    axis: int
    settings: PruneSettings

    @property
    def possible(self) -> bool:
        """Whether the weight has units of this granularity: kernels only where it is a convolution's."""
        return self.settings.granularity != "kernel" or len(self.shape) > 2

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean of ``values`` (the weight's shape) over each unit, ``(units,)``."""
        if self.settings.granularity == "weight":
            return values.reshape(-1)
        rows, height, columns, width = self._blocks
        matrix = values.movedim(self.axis, 0).reshape(self.shape[self.axis], -1)
        padding = (0, columns * width - matrix.shape[1], 0, rows * height - matrix.shape[0])
        parts = torch.nn.functional.pad(matrix, padding).view(rows, height, columns, width)
        return (parts.sum((1, 3)) / self._sizes()).reshape(-1)

    def spread(self, chosen: Tensor) -> Tensor:
        """Return ``chosen``, one value a unit ``(units,)``, at each of its weights (the weight's shape)."""
        if self.settings.granularity == "weight":
            return chosen.reshape(self.shape)
        rows, height, columns, width = self._blocks
        parts = chosen.view(rows, 1, columns, 1).expand(rows, height, columns, width)
        matrix = parts.reshape(rows * height, columns * width)
        outputs = self.shape[self.axis]
        others = tuple(size for axis, size in enumerate(self.shape) if axis != self.axis)
        return matrix[:outputs, : math.prod(others)].reshape(outputs, *others).movedim(0, self.axis)

    def counts(self) -> Tensor:
        """Return how many weights each unit has, ``(units,)``."""
        if self.settings.granularity == "weight":
            return torch.ones(math.prod(self.shape))
        return self._sizes().reshape(-1)

    @property
    def _blocks(self) -> tuple[int, int, int, int]:
        """Blocks down, rows of each, blocks across, columns of each."""
        outputs = self.shape[self.axis]
        inputs = math.prod(self.shape) // max(1, outputs)
        height, width = {
            "row": (1, max(1, inputs)),
            "kernel": (1, math.prod(self.shape[2:])),
            "block": (self.settings.block_rows, self.settings.block_columns),
        }[self.settings.granularity]
        return math.ceil(outputs / height), height, math.ceil(inputs / width), width

    def _sizes(self) -> Tensor:
        rows, height, columns, width = self._blocks
        outputs = self.shape[self.axis]
        inputs = math.prod(self.shape) // max(1, outputs)
        down = torch.tensor([min(height, outputs - height * row) for row in range(rows)])
        across = torch.tensor([min(width, inputs - width * column) for column in range(columns)])
        return (down[:, None] * across).float()
