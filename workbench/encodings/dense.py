"""Every value as it is, little-endian, one after another."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.encodings.base import (
    Array,
    Description,
    Encoding,
    EncodingError,
    Shape,
    expect_bytes,
    mask_entropy_bytes,
    read_field,
    register,
)
from workbench.encodings.once import once

STORED: dict[str, np.dtype[Any]] = {
    "float64": np.dtype("<f8"),
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype("<u2"),  # numpy has no bfloat16: its upper 16 bits, viewed as integers
    "int64": np.dtype("<i8"),
    "int32": np.dtype("<i4"),
    "int16": np.dtype("<i2"),
    "int8": np.dtype("i1"),
    "uint16": np.dtype("<u2"),
    "uint8": np.dtype("u1"),
    "bool": np.dtype("?"),
}
"""The element types that can be kept, and the numpy type their bytes are."""

#: By numpy type, what it is called, which numpy puts together anew whenever it is asked.
_NAMES = {stored: name for name, stored in STORED.items() if name != "bfloat16"}


@register
@dataclass(frozen=True, eq=False)
class Dense(Encoding):
    """Raw values of one element type.

    `values` is the array; for `bfloat16` it holds the bit patterns as uint16 (`bfloat16_bits`), and
    `decode` gives them widened to float32, which is exact. Other types decode as themselves.
    """

    kind: ClassVar[str] = "dense"
    values: Array
    type: str

    def __post_init__(self) -> None:
        if self.type not in STORED:
            raise EncodingError(f"values of type {self.type} cannot be kept; use one of {', '.join(STORED)}")
        stored = STORED[self.type]
        if self.values.dtype.kind != stored.kind or self.values.dtype.itemsize != stored.itemsize:
            raise EncodingError(f"{self.type} values were expected and {self.values.dtype} given")

    @classmethod
    def of(cls, values: Array) -> Dense:
        """Keep a numpy array in its own type."""
        return cls(values, name_of(values.dtype))

    @property
    def shape(self) -> Shape:
        return self.values.shape

    def decode(self, background: ArrayLike = 0) -> Array:
        if self.type == "bfloat16":
            widened = np.atleast_1d(self.values).astype(np.uint32) << np.uint32(16)
            return widened.view(np.float32).reshape(self.shape)
        return self.values.astype(STORED[self.type].newbyteorder("="), order="C", copy=True)

    def pack(self) -> bytes:
        return self.values.astype(STORED[self.type], copy=False).tobytes()

    @property
    def nbytes(self) -> int:
        return self.values.size * STORED[self.type].itemsize

    @property
    def entropy_bytes(self) -> float:
        """Every non-zero value at its full width, plus which are zero.

        Floating-point weights are practically all distinct, so counting symbols would say nothing.
        """
        return self._entropy

    @once
    def zeros(self) -> int:
        """How many of the values are plus zero."""
        return self.values.size - int(np.count_nonzero(nonzero_bits(self.values)))

    @once
    def _entropy(self) -> float:
        kept = self.values.size - self.zeros
        return mask_entropy_bytes(self.values.size, kept) + kept * self.values.dtype.itemsize

    def describe(self) -> dict[str, Any]:
        return {"kind": self.kind, "type": self.type}

    @classmethod
    def unpack(cls, description: Description, shape: Shape, data: bytes) -> Dense:
        kind = read_field(description, "type", str)
        size = cls.size_of(description, shape)
        expect_bytes(cls.kind, data, size)
        if kind == "bool":
            return cls((np.frombuffer(data, np.uint8) != 0).reshape(shape), kind)
        return cls(np.frombuffer(data, STORED[kind]).reshape(shape), kind)

    @classmethod
    def size_of(cls, description: Description, shape: Shape) -> int:
        kind = read_field(description, "type", str)
        if kind not in STORED:
            raise EncodingError(f"no element type is called {kind!r}")
        return math.prod(shape) * STORED[kind].itemsize


def name_of(dtype: np.dtype[Any]) -> str:
    """Return what an element type is called."""
    return _NAMES.get(dtype) or dtype.name


def nonzero_bits(values: Array) -> NDArray[np.bool_]:
    """True where a value is anything but plus zero; minus zero counts, for it must survive a round trip."""
    if values.dtype.kind == "f":
        values = np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}")
    return np.not_equal(values, 0)


def bfloat16_bits(values: Array) -> NDArray[np.uint16]:
    """Round float32 values to bfloat16, to nearest and ties to even, as bit patterns.

    NaN stays NaN. The same rounding as `torch.Tensor.to(torch.bfloat16)`.
    """
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded.astype(np.uint16))
