"""Weights from a table of values in an ONNX file: small indices, and a ``Gather`` that looks the values up.

ONNX Runtime folds the look-up into a constant when it loads: the file is smaller, the kernels are those of
any other weight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto


@dataclass(frozen=True, eq=False)
class Table:
    """A weight as ``values[codes + starts] * scale``, brought to ``shape``.

    ``codes`` are unsigned integers below ``2**bits``; ``values`` float32, a number or a row of them an entry;
    ``starts`` (int32) and ``scale`` (float32) broadcast against the codes and against what is looked up; None
    leaves them out. Where ``axis`` is given, what is looked up is a matrix with a row for each channel along
    that axis of the weight, of which the first columns count.
    """

    codes: NDArray[np.unsignedinteger]
    values: NDArray[np.float32]
    shape: tuple[int, ...]
    bits: int
    starts: NDArray[np.int32] | None = None
    scale: NDArray[np.float32] | None = None
    axis: int | None = None

    @property
    def layout(self) -> tuple[object, ...]:
        """What decides the bytes it takes in the file."""
        parts = (self.codes, self.values, self.starts, self.scale)
        return (self.shape, self.bits, self.axis, *(None if part is None else part.shape for part in parts))


def table_nodes(name: str, table: Table, codes: TensorProto, nodes: list[NodeProto]) -> list[TensorProto]:
    """Add the nodes that make the weight ``name``, and return the constants they read, ``codes`` among them."""
    from onnx import TensorProto, helper, numpy_helper

    constants = [codes]

    def constant(part: str, values: NDArray[np.generic]) -> str:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(values), f"{name}.{part}"))
        return f"{name}.{part}"

    def node(op: str, inputs: list[str], part: str, **attributes: Any) -> str:
        made = f"{name}.{part}"
        nodes.append(helper.make_node(op, inputs, [made], **attributes))
        return made

    value = node("Cast", [codes.name], "places", to=TensorProto.INT32)
    if table.starts is not None:
        value = node("Add", [value, constant("starts", table.starts)], "entries")
    value = node("Gather", [constant("table", table.values), value], "found", axis=0)
    if table.scale is not None:
        value = node("Mul", [value, constant("scale", table.scale)], "scaled")
    if table.axis is not None:
        value = _rows(value, table, constant, node)
    nodes[-1].output[0] = name
    return constants


def _rows(value: str, table: Table, constant: Callable[..., str], node: Callable[..., str]) -> str:
    """Turn rows of channels into the weight."""
    assert table.axis is not None
    channels = table.shape[table.axis]
    others = [size for place, size in enumerate(table.shape) if place != table.axis]
    wanted, given = int(np.prod(others, dtype=np.int64)), int(table.codes.size // channels)
    given *= table.values.shape[1] if table.values.ndim > 1 else 1
    value = node("Reshape", [value, constant("rows_shape", np.array([channels, given], np.int64))], "rows")
    if given != wanted:
        bounds = {"first": 0, "last": wanted, "side": 1}
        named = [constant(part, np.array([at], np.int64)) for part, at in bounds.items()]
        value = node("Slice", [value, *named], "cut")
    value = node("Reshape", [value, constant("shape", np.array([channels, *others], np.int64))], "moved")
    order = list(range(1, len(table.shape)))
    order.insert(table.axis, 0)
    return node("Transpose", [value], "turned", perm=order)
