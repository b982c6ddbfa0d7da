"""Values of a table: unsigned codes that say which, and a scale for each slice.

    value = table[code] * scale

in float32. The table travels with the tensor, or follows from its name (``tables``): fp8, NF4, powers of
two, the signs of a binary weight.
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
    expect_bytes,
    read_field,
    register,
    unpack,
)
from workbench.encodings.slices import slice_count, spread
from workbench.encodings.tables import named_table, table_values


@register
@dataclass(frozen=True, eq=False)
class Levels(Encoding):
    """Codes into ``table``, an array of at most 2**16 float32 values or the name of one of ``tables``.

    ``scale`` is float32 with one entry a slice (see ``slices``). Where ``codes`` is sparse, what is
    missing decodes to exactly plus zero, even where the table has no zero.
    """

    kind: ClassVar[str] = "levels"
    codes: Encoding
    table: NDArray[np.float32] | str
    scale: NDArray[np.float32]
    axis: int | None = None
    group: int | None = None

    def __post_init__(self) -> None:
        count = slice_count(self.shape, self.axis, self.group)
        if self.scale.shape != (count,) or self.scale.dtype != np.float32:
            raise EncodingError(f"a table on {count} slices has {self.scale.shape} scales of {self.scale.dtype}")
        if not (self.scale >= 0).all():  # minus zero would not be what a sparse tensor leaves out
            raise EncodingError("the scales of a table must be zero or more")
        values = table_values(self.table)
        if values.ndim != 1 or not 0 < values.size <= 2**16 or values.dtype != np.float32:
            raise EncodingError(f"a table holds 1 to 65,536 float32 values, not {values.shape} of {values.dtype}")

    @property
    def shape(self) -> Shape:
        return self.codes.shape

    def decode(self, background: ArrayLike = 0) -> Array:
        values = table_values(self.table)
        codes = self.codes.decode(background=blank_of(values))
        if codes.dtype.kind not in "iu" or (codes.size and int(codes.max()) > values.size):
            raise EncodingError(f"codes go beyond a table of {values.size} values")
        return look_up(codes, values, self.scale, self.axis, self.group)

    def pack(self) -> bytes:
        table = b"" if isinstance(self.table, str) else self.table.astype("<f4").tobytes()
        return self.scale.astype("<f4").tobytes() + table + self.codes.pack()

    @property
    def nbytes(self) -> int:
        table = 0 if isinstance(self.table, str) else self.table.nbytes
        return self.scale.nbytes + table + self.codes.nbytes

    @property
    def entropy_bytes(self) -> float:
        """Entropy of the codes, and scales and table as they are stored."""
        return self.nbytes - self.codes.nbytes + self.codes.entropy_bytes

    def describe(self) -> dict[str, Any]:
        slices = {"axis": self.axis, "group": self.group}
        table = self.table if isinstance(self.table, str) else self.table.size
        used = {name: value for name, value in slices.items() if value is not None}
        return {"kind": self.kind, **used, "table": table, "codes": self.codes.describe()}

    @classmethod
    def unpack(cls, description: Description, shape: Shape, data: bytes) -> Levels:
        axis = read_field(description, "axis", int) if "axis" in description else None
        group = read_field(description, "group", int) if "group" in description else None
        count = 4 * slice_count(shape, axis, group)
        expect_bytes("scale", data[:count], count)
        table: NDArray[np.float32] | str
        if isinstance(description.get("table"), str):
            name: str = description["table"]
            named_table(name)
            table, rest = name, data[count:]
        else:
            end = count + 4 * read_field(description, "table", int)
            if not count < end <= len(data):
                raise EncodingError("a table of values is cut short")
            table, rest = np.frombuffer(data[count:end], "<f4").astype(np.float32), data[end:]
        scale = np.frombuffer(data[:count], "<f4").astype(np.float32)
        return cls(unpack(read_field(description, "codes", dict), shape, rest), table, scale, axis, group)


def blank_of(table: NDArray[np.float32]) -> int:
    """Return the code of zero; the first beyond the table where it has none."""
    zeros = np.flatnonzero(table == 0)
    return int(zeros[0]) if zeros.size else table.size


def look_up(
    codes: Array, table: NDArray[np.float32], scale: NDArray[np.float32], axis: int | None, group: int | None
) -> NDArray[np.float32]:
    """Return ``table[codes] * scale`` in the codes' shape; the code beyond the table is plus zero."""
    values = np.append(table, np.float32(0)).take(codes)
    values *= spread(scale, codes.shape, axis, group)
    return np.asarray(values, np.float32)
