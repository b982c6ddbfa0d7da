"""Quantized values on a uniform grid: integer codes, and the step and zero of the grid.

    value = (code - zero_point) * scale

in float32, in that order, as `torch.fake_quantize_per_tensor_affine` and its per-channel sister compute
it, so that decoding gives the simulated weights bit for bit (Jacob et al. 2018, arXiv 1712.05877).
"""

from __future__ import annotations

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
    read_field,
    register,
    split_part,
    unpack,
)
from workbench.encodings.dense import Dense
from workbench.encodings.integers import Packed
from workbench.encodings.once import once
from workbench.encodings.slices import slice_count, spread


@register
@dataclass(frozen=True, eq=False)
class Grid(Encoding):
    """Codes on a grid, one for the whole tensor (`axis` None) or one for each slice along `axis`.

    `codes` is an encoding of unsigned integers (`Packed` or one around it); `scale` is float32 and
    `zero_point` integer, both with one entry a slice (see `slices`): a channel, or `group` values of one.
    Where `codes` is sparse, what is missing decodes to exactly plus zero.
    """

    kind: ClassVar[str] = "grid"
    codes: Encoding
    scale: NDArray[np.float32]
    zero_point: NDArray[Any]
    axis: int | None = None
    group: int | None = None

    def __post_init__(self) -> None:
        channels = slice_count(self.shape, self.axis, self.group)
        if self.scale.shape != (channels,) or self.zero_point.shape != (channels,):
            raise EncodingError(
                f"a grid of {channels} channels has {self.scale.shape} scales and {self.zero_point.shape} zero points"
            )
        if self.scale.dtype != np.float32 or self.zero_point.dtype.kind not in "iu":
            raise EncodingError("a grid's scales must be float32 and its zero points integers")
        small = self.zero_point.dtype in (np.uint8, np.uint16)
        if channels and not small and not 0 <= int(self.zero_point.min()) <= int(self.zero_point.max()) <= 0xFFFF:
            raise EncodingError("a grid's zero points must be codes themselves, from 0 up")

    @classmethod
    def of(
        cls,
        codes: Encoding,
        scale: ArrayLike,
        zero_point: ArrayLike,
        axis: int | None = None,
        group: int | None = None,
    ) -> Grid:
        """Build one from scales and zero points in any form: scalars or one for each slice."""
        count = slice_count(codes.shape, axis, group)
        zeros = np.asarray(zero_point)
        if zeros.dtype.kind == "f" and np.array_equal(zeros, np.trunc(zeros)):
            zeros = zeros.astype(np.int64)
        scales = np.asarray(scale, dtype=np.float32).ravel()
        return cls(codes, _repeated(scales, count), _repeated(zeros.ravel(), count), axis, group)

    @property
    def shape(self) -> Shape:
        return self.codes.shape

    def decode(self, background: ArrayLike = 0) -> Array:
        zero_point, scale = self._along_axis(self.zero_point), self._along_axis(self.scale)
        values = self.codes.decode(background=zero_point).astype(np.float32)  # exact: codes are below 2**16
        values -= zero_point.astype(np.float32)
        values *= scale
        return values

    def _along_axis(self, values: Array) -> Array:
        return spread(values, self.shape, self.axis, self.group)

    def pack(self) -> bytes:
        zeros = self._zeros
        return self._scales().pack() + (zeros.pack() if zeros else b"") + self.codes.pack()

    @property
    def nbytes(self) -> int:
        return self._beside + self.codes.nbytes

    @property
    def entropy_bytes(self) -> float:
        """Entropy of the codes, and the scales and zero points as they are stored."""
        return self._beside + self.codes.entropy_bytes

    @once
    def _beside(self) -> int:
        """Bytes of scales and zero points."""
        zeros = self._zeros
        return self.scale.nbytes + (zeros.nbytes if zeros else 0)

    def _scales(self) -> Dense:
        return Dense(self.scale, "float32")

    @once
    def _zeros(self) -> Packed | None:
        """Zero points in the fewest bits; None where all are equal: the description holds the one."""
        repeated = self.zero_point.size <= 1 or self.zero_point.strides == (0,)
        if repeated or (self.zero_point == self.zero_point[0]).all():
            return None
        width = int(self.zero_point.max()).bit_length()
        if width > 8:
            return Packed(self.zero_point.astype(np.uint16), 16)
        return Packed(self.zero_point.astype(np.uint8), width)

    def describe(self) -> dict[str, Any]:
        zeros = self._zeros
        same = int(self.zero_point[0]) if self.zero_point.size else 0
        axis = {} if self.axis is None else {"axis": self.axis}
        axis |= {} if self.group is None else {"group": self.group}
        zero = same if zeros is None else zeros.describe()
        return {"kind": self.kind, **axis, "zero": zero, "codes": self.codes.describe()}

    @classmethod
    def unpack(cls, description: Description, shape: Shape, data: bytes) -> Grid:
        axis = read_field(description, "axis", int) if "axis" in description else None
        group = read_field(description, "group", int) if "group" in description else None
        channels = (slice_count(shape, axis, group),)
        scale, rest = split_part({"scale": {"kind": "dense", "type": "float32"}}, "scale", channels, data)
        if isinstance(description.get("zero"), dict):
            zeros, rest = split_part(description, "zero", channels, rest)
            zero_point = zeros.decode()
        else:
            zero = read_field(description, "zero", int)
            if not 0 <= zero <= 0xFFFF:
                raise EncodingError(f"{zero} is not a zero point")
            zero_point = np.full(channels, zero, np.uint16)
        codes = unpack(read_field(description, "codes", dict), shape, rest)
        return cls(codes, scale.decode(), zero_point, axis, group)


def _repeated(values: Array, count: int) -> Array:
    return np.broadcast_to(values, (count,)) if values.size == 1 else values
