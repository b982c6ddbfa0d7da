"""The ONNX file that a runtime loads: weights kept in the few bits they have.

A weight on a grid is stored as unsigned integers with a ``DequantizeLinear``, in 4 bits where 4 are
enough and in 8 or 16 otherwise; where groups of weights have scales of their own, as a matrix that a
``Reshape`` gives its shape. A 16-bit float with a ``Cast``. ONNX Runtime turns both back to fp32 when it
loads, so that such a file is smaller and not faster. What ONNX cannot hold compactly is said by
``dense_in_file``: zeros cost as much as other weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

    from workbench.run.onnx_graph import OnnxGraph

#: 4-bit integers entered DequantizeLinear in opset 21, with IR version 10.
OPSET, IR_VERSION = 21, 10


def onnx_file(
    graph: OnnxGraph,
    tensors: Mapping[str, Tensor],
    integers: Mapping[str, tuple[Any, ...]],
    halves: frozenset[str] = frozenset(),
) -> ModelProto:
    """Return the model with its quantized weights as integers and its 16-bit ones as fp16.

    ``integers`` maps a weight to its codes, scale, zero point, axis, bits and, where groups of that many
    values of a channel have a scale, the group; ``halves`` names the weights stored as fp16.
    """
    model = graph.build(tensors)
    nodes: list[NodeProto] = []
    stored: list[TensorProto] = []
    for tensor in model.graph.initializer:
        if tensor.name in integers:
            stored.extend(_integer_weight(tensor.name, *integers[tensor.name], nodes=nodes))
        elif tensor.name in halves:
            stored.append(_half_weight(tensor.name, tensors[tensor.name], nodes))
        else:
            stored.append(tensor)
    if not nodes:
        return model
    kept = list(model.graph.node)
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend([*nodes, *kept])
    model.graph.initializer.extend(stored)
    model.opset_import[0].version = max(OPSET, model.opset_import[0].version)
    model.ir_version = max(IR_VERSION, model.ir_version)
    return model


def _integer_weight(
    name: str,
    codes: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    axis: int | None,
    bits: int,
    group: int | None = None,
    *,
    nodes: list[NodeProto],
) -> list[TensorProto]:
    from onnx import TensorProto, helper, numpy_helper

    kind = TensorProto.UINT4 if bits <= 4 else TensorProto.UINT8 if bits <= 8 else TensorProto.UINT16
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
    """Return ONNX's raw bytes: two 4-bit codes a byte, the first in the low half."""
    if bits > 8:
        return np.ascontiguousarray(values, "<u2").tobytes()
    flat = np.ascontiguousarray(values, np.uint8).reshape(-1)
    if bits > 4:
        return flat.tobytes()
    if len(flat) % 2:
        flat = np.append(flat, np.uint8(0))
    return (flat[0::2] | (flat[1::2] << 4)).tobytes()
