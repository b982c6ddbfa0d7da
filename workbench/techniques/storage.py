"""How a step decided to store a tensor: the values it decodes to, and the Encoding that packs them.

A tensor without a Storage is kept as float32. A technique that stores tensors in a way of its own makes
a subclass; what sizes, tables, views and files need to know of it is here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from workbench.encodings import Encoding, encode_grid, encode_values


class Storage(ABC):
    """How one tensor is stored. Immutable: changes give a new one."""

    bits: float
    """Bits that a stored value is written in, before sparsity and entropy coding."""

    @abstractmethod
    def decode(self) -> Tensor:
        """Return the float32 tensor it stands for."""

    @abstractmethod
    def encode(self) -> Encoding:
        """Return the smallest Encoding that decodes, bit for bit, to what ``decode`` gives."""

    def levels(self) -> Tensor | None:
        """Return the values a weight can take, for the histogram; None where there are too many to draw."""
        return None

    def masked(self, pruned: Tensor) -> Storage | None:
        """Return the same with the weights where ``pruned`` is true set to zero; None where it can't hold zero."""
        return None

    def sliced(self, axis: int, keep: Tensor) -> Storage | None:
        """Return the same with only ``keep`` along ``axis``; None where it cannot be cut."""
        return None


@dataclass(frozen=True, eq=False)
class Codes(Storage):
    """A weight on a uniform grid: integer ``codes`` (the weight's shape), ``(codes - zero_point) * scale``.

    ``scale`` and ``zero_point`` have one entry per slice along ``axis``, or a single one where
    ``axis`` is None.
    """

    codes: Tensor
    scale: Tensor
    zero_point: Tensor
    axis: int | None
    bits: int

    def decode(self) -> Tensor:
        """Return the float32 values the codes stand for."""
        return (self.codes - self._spread(self.zero_point)) * self._spread(self.scale)

    def encode(self) -> Encoding:
        """Return the grid's integers in the fewest bytes."""
        zero_point = self.zero_point.to(torch.uint8).numpy()
        return encode_grid(self.codes.numpy(), self.bits, self.scale.numpy(), zero_point, self.axis)

    def levels(self) -> Tensor:
        """Return the values the codes can take; of the slice with the median scale where there are several."""
        middle = int(self.scale.argsort()[len(self.scale) // 2])
        return (torch.arange(2**self.bits) - self.zero_point[middle]) * self.scale[middle]

    def masked(self, pruned: Tensor) -> Codes:
        """Return the same with the weights where ``pruned`` is true set to zero."""
        zeros = self._spread(self.zero_point).expand(self.codes.shape).to(self.codes.dtype)
        return Codes(torch.where(pruned, zeros, self.codes), self.scale, self.zero_point, self.axis, self.bits)

    def sliced(self, axis: int, keep: Tensor) -> Codes:
        """Return the same with only ``keep`` along ``axis``."""
        scale, zero_point = self.scale, self.zero_point
        if axis == self.axis:
            scale, zero_point = scale[keep], zero_point[keep]
        return Codes(self.codes.index_select(axis, keep), scale, zero_point, self.axis, self.bits)

    def _spread(self, values: Tensor) -> Tensor:
        shape = [1] * self.codes.ndim
        if self.axis is not None:
            shape[self.axis] = -1
        return values.view(shape)


@dataclass(frozen=True, eq=False)
class Cast(Storage):
    """A weight rounded to a 16-bit float; ``values`` are those of ``dtype``, as float32."""

    values: Tensor
    dtype: torch.dtype

    NAMES: ClassVar[dict[torch.dtype, str]] = {torch.float16: "float16", torch.bfloat16: "bfloat16"}
    bits = 16

    @classmethod
    def of(cls, values: Tensor, dtype: torch.dtype) -> Cast:
        """Round ``values`` to ``dtype``, to nearest even."""
        return cls(values.to(dtype).float(), dtype)

    def decode(self) -> Tensor:
        """Return the rounded values."""
        return self.values

    def encode(self) -> Encoding:
        """Return the 16-bit floats, sparse where that is smaller."""
        return encode_values(self.values.numpy(), type=self.NAMES[self.dtype])

    def masked(self, pruned: Tensor) -> Cast:
        """Return the same with the weights where ``pruned`` is true set to zero."""
        return Cast(self.values.masked_fill(pruned, 0.0), self.dtype)

    def sliced(self, axis: int, keep: Tensor) -> Cast:
        """Return the same with only ``keep`` along ``axis``."""
        return Cast(self.values.index_select(axis, keep), self.dtype)
