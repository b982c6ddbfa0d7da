"""What a microcontroller runs: integer operators in order, and the values between them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Value:
    """One image's unsigned 8-bit tensor: ``real = scale × (stored - zero_point)``; ``shape`` has no batch."""

    name: str
    shape: tuple[int, ...]
    scale: float
    zero_point: int

    @property
    def nbytes(self) -> int:
        """Bytes it takes in memory."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Op:
    """One call of a kernel.

    ``kind`` is the C function's name without its prefix; ``numbers`` are the integers it is given, in the
    order of the C struct's fields; ``tables`` are constant arrays (weights, biases, multipliers, shifts).
    """

    kind: str
    inputs: tuple[str, ...]
    output: str
    numbers: Mapping[str, int] = field(default_factory=dict)
    tables: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    layer: str = ""

    @property
    def in_place(self) -> bool:
        """Whether the output may take the place of an input of the same size, element by element."""
        return self.kind in {"add", "rescale"}


@dataclass(frozen=True)
class Program:
    """Operators in the order they run; ``values`` holds every input and output by name."""

    ops: tuple[Op, ...]
    values: Mapping[str, Value]
    input: str
    output: str

    @property
    def constant_bytes(self) -> int:
        """Bytes of all weights, biases, multipliers and shifts: what must lie in flash."""
        return sum(table.nbytes for op in self.ops for table in op.tables.values())


def multiplier_of(factor: float) -> tuple[int, int]:
    """Return ``(mantissa, shift)`` with ``factor ≈ mantissa / 2**shift`` and the mantissa in 31 bits.

    Scaling by a real factor without floating point (Jacob et al. 2018, "Quantization and Training of Neural
    Networks for Efficient Integer-Arithmetic-Only Inference", section 2.2).

    >>> multiplier_of(0.75)
    (1610612736, 31)
    """
    if factor <= 0:
        return 0, 31
    mantissa, exponent = math.frexp(factor)  # factor = mantissa × 2**exponent, mantissa in [0.5, 1)
    whole, shift = round(mantissa * 2**31), 31 - exponent
    if whole == 2**31:
        whole, shift = 2**30, shift - 1
    while shift > 62:  # too small to matter in 64 bits
        whole, shift = whole >> 1, shift - 1
    return whole, shift
