"""The ONNX file that a runtime loads: weights kept in the few bits they have.

A weight on a grid is stored as unsigned integers with a ``DequantizeLinear``, in the fewest of 2, 4, 8 and
16 bits that are enough; where groups of weights have scales of their own, as a matrix that a
``Reshape`` gives its shape. A 16-bit float with a ``Cast``. ONNX Runtime turns both back to fp32 when it
loads, so that such a file is smaller and not faster. Weights from a table of values are looked up in it
(``onnx_tables``). What ONNX cannot hold compactly is said by
``dense_in_file``: zeros cost as much as other weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .onnx_tables import Table, table_nodes

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

    from workbench.run.onnx_graph import OnnxGraph
    from workbench.run.onnx_grids import InputGrid

#: Opset and IR version with which integers of so many bits entered DequantizeLinear.
OPSETS = {2: (25, 13), 4: (21, 10), 8: (21, 10), 16: (21, 10)}


class IntegerWeight(NamedTuple):
    """A weight, (codes - zero_point) * scale; a scale for each channel of ``axis``, or ``group`` values of one."""

    codes: Tensor
    scale: Tensor
    zero_point: Tensor
    axis: int | None
    bits: int
    group: int | None = None


def onnx_file(
    graph: OnnxGraph,
    tensors: Mapping[str, Tensor],
    integers: Mapping[str, IntegerWeight],
    halves: frozenset[str] = frozenset(),
    grids: Mapping[str, InputGrid] | None = None,
    tables: Mapping[str, Table] | None = None,
) -> ModelProto:
    """Return the model with its quantized weights as integers, its 16-bit ones as fp16, and tables of values.

    ``integers`` are weights on a grid; ``halves`` names the weights stored as fp16; ``grids`` are those of inputs,
    rounded to in float; ``tables`` are weights that are looked up.
    """
    model = graph.build(tensors, grids)
    integers = {name: _turned(model, name, weight) for name, weight in integers.items()}
    nodes: list[NodeProto] = []
    stored: list[TensorProto] = []
    for tensor in model.graph.initializer:
        stored.extend(stored_as(tensor.name, tensors, integers, halves, tables or {}, nodes) or [tensor])
    if not nodes:
        return model
    kept = list(model.graph.node)
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend([*nodes, *kept])
    model.graph.initializer.extend(stored)
    bits = [weight.bits for weight in integers.values()] + [table.bits for table in (tables or {}).values()]
    opset, version = OPSETS[width(min(bits, default=16))]
    model.opset_import[0].version = max(opset, model.opset_import[0].version)
    model.ir_version = max(version, model.ir_version)
    return model


def stored_as(
    name: str,
    tensors: Mapping[str, Tensor],
    integers: Mapping[str, IntegerWeight],
    halves: frozenset[str],
    tables: Mapping[str, Table],
    nodes: list[NodeProto],
) -> list[TensorProto]:
    """Add the nodes that make the weight ``name``, and return the constants they read; none where it stays as it is."""
    if name in integers:
        return _integer_weight(name, integers[name], nodes)
    if name in tables:
        return _looked_up(name, tables[name], nodes)
    return [_half_weight(name, tensors[name], nodes)] if name in halves else []


def width(bits: int) -> int:
    """Return the bits that ONNX keeps integers of ``bits`` bits in."""
    return next(kept for kept in OPSETS if bits <= kept)


def _turned(model: ModelProto, name: str, weight: IntegerWeight) -> IntegerWeight:
    """Return a weight of 2 bits as the graph reads it, where all it does first is transpose it; others as they are.

    ONNX Runtime would transpose the integers when it loads the file, and cannot in 2 bits. It then multiplies with
    them, wrongly where the zero points of the channels do not fill bytes (seen in ONNX Runtime 1.32). Such weights,
    and those that something else reads as well, are kept in 4 bits.
    """
    readers = [node for node in model.graph.node if name in node.input]
    orders = {
        tuple(node.attribute[0].ints) if node.op_type == "Transpose" and node.attribute else () for node in readers
    }
    if weight.bits > 2 or weight.group or orders <= {()}:
        return weight
    order = min(orders, key=len)
    if len(orders) > 1 or (weight.axis is not None and weight.codes.shape[order[-1]] % 4):
        return weight._replace(bits=4)
    replaced = {node.output[0] for node in readers}
    for node in readers:
        model.graph.node.remove(node)
    for node in model.graph.node:
        for place, read in enumerate(node.input):
            if read in replaced:
                node.input[place] = name
    axis = None if weight.axis is None else order.index(weight.axis)
    return weight._replace(codes=weight.codes.permute(order), axis=axis)


def _integer_weight(name: str, weight: IntegerWeight, nodes: list[NodeProto]) -> list[TensorProto]:
    from onnx import TensorProto, helper, numpy_helper

    codes, scale, zero_point, axis, bits, group = weight
    kind = _kind(bits)
    values, zeros, scales = codes.numpy(), zero_point.numpy().astype(np.uint16), scale.numpy()
    attributes: dict[str, Any] = {}
    result, shape = name, None
    if axis is None:
        scales, zeros = scales[0:1].reshape(()), zeros[0:1].reshape(())
    elif group is None:
        attributes["axis"] = axis
    else:
        moved = np.moveaxis(values, axis, 0)
        values = moved.reshape(len(moved), -1)
        scales, zeros = scales.reshape(len(moved), -1), zeros.reshape(len(moved), -1)
        attributes, result, shape = {"axis": 1, "block_size": group}, f"{name}.rows", moved.shape
    inputs = [f"{name}.codes", f"{name}.scale", f"{name}.zero_point"]
    nodes.append(helper.make_node("DequantizeLinear", inputs, [result], **attributes))
    return [
        TensorProto(name=inputs[0], data_type=kind, dims=values.shape, raw_data=_packed(values, bits)),
        numpy_helper.from_array(np.ascontiguousarray(scales), inputs[1]),
        TensorProto(name=inputs[2], data_type=kind, dims=zeros.shape, raw_data=_packed(zeros, bits)),
        *([] if shape is None else _unrolled(name, shape, axis or 0, nodes)),
    ]


def _kind(bits: int) -> int:
    """Return ONNX's number of the unsigned integers that hold ``bits`` bits."""
    from onnx import TensorProto

    kinds = {2: TensorProto.UINT2, 4: TensorProto.UINT4, 8: TensorProto.UINT8, 16: TensorProto.UINT16}
    return int(kinds[width(bits)])


def _looked_up(name: str, table: Table, nodes: list[NodeProto]) -> list[TensorProto]:
    from onnx import TensorProto

    packed = _packed(table.codes, table.bits)
    codes = TensorProto(name=f"{name}.codes", data_type=_kind(table.bits), dims=table.codes.shape, raw_data=packed)
    return table_nodes(name, table, codes, nodes)


def _unrolled(name: str, shape: tuple[int, ...], axis: int, nodes: list[NodeProto]) -> list[TensorProto]:
    """Add the nodes that turn a matrix with a row a channel back into a weight whose channels are at ``axis``."""
    from onnx import helper, numpy_helper

    order = list(range(1, len(shape)))
    order.insert(axis, 0)
    nodes.append(helper.make_node("Reshape", [f"{name}.rows", f"{name}.shape"], [f"{name}.moved"]))
    nodes.append(helper.make_node("Transpose", [f"{name}.moved"], [name], perm=order))
    return [numpy_helper.from_array(np.asarray(shape, np.int64), f"{name}.shape")]


def _half_weight(name: str, tensor: Tensor, nodes: list[NodeProto]) -> TensorProto:
    from onnx import TensorProto, helper, numpy_helper

    nodes.append(helper.make_node("Cast", [f"{name}.fp16"], [name], to=TensorProto.FLOAT))
    stored: TensorProto = numpy_helper.from_array(tensor.half().numpy(), f"{name}.fp16")
    return stored


def _packed(values: NDArray[Any], bits: int) -> bytes:
    """Return ONNX's raw bytes: two 4-bit or four 2-bit codes a byte, the first in the lowest bits."""
    if bits > 8:
        return np.ascontiguousarray(values, "<u2").tobytes()
    flat = np.ascontiguousarray(values, np.uint8).reshape(-1)
    if bits > 4:
        return flat.tobytes()
    kept = width(bits)
    count = 8 // kept
    rows = np.append(flat, np.zeros(-len(flat) % count, np.uint8)).reshape(-1, count)
    packed = rows[:, 0].copy()
    for place in range(1, count):
        packed |= rows[:, place] << np.uint8(place * kept)
    return packed.tobytes()
