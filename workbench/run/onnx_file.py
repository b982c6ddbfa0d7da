"""The ONNX file that a runtime loads: weights kept in the few bits they have.

A weight on a grid is stored as unsigned integers with a ``DequantizeLinear``, in 4 bits where 4 are
enough and in 8 otherwise; a 16-bit float with a ``Cast``. ONNX Runtime turns both back to fp32 when it
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
    integers: Mapping[str, tuple[Tensor, Tensor, Tensor, int | None, int]],
    halves: frozenset[str] = frozenset(),
) -> ModelProto:
    """Return the model with its quantized weights as integers and its 16-bit ones as fp16.

    ``integers`` maps a weight to its codes, scale, zero point, axis and bits; ``halves`` names the
    weights stored as fp16.
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
    name: str, codes: Tensor, scale: Tensor, zero_point: Tensor, axis: int | None, bits: int, nodes: list[NodeProto]
) -> list[TensorProto]:
    from onnx import TensorProto, helper, numpy_helper

    kind = TensorProto.UINT4 if bits <= 4 else TensorProto.UINT8
    scalar = axis is None
    values, zeros = codes.numpy(), zero_point.numpy().astype(np.uint8)
    scales = scale.numpy()[0:1].reshape(()) if scalar else scale.numpy()
    shape = () if scalar else zeros.shape
    attributes: dict[str, Any] = {} if scalar else {"axis": axis}
    inputs = [f"{name}.codes", f"{name}.scale", f"{name}.zero_point"]
    nodes.append(helper.make_node("DequantizeLinear", inputs, [name], **attributes))
    return [
        TensorProto(name=inputs[0], data_type=kind, dims=values.shape, raw_data=_packed(values, bits)),
        numpy_helper.from_array(np.ascontiguousarray(scales), inputs[1]),
        TensorProto(name=inputs[2], data_type=kind, dims=shape, raw_data=_packed(zeros, bits)),
    ]


def _half_weight(name: str, tensor: Tensor, nodes: list[NodeProto]) -> TensorProto:
    from onnx import TensorProto, helper, numpy_helper

    nodes.append(helper.make_node("Cast", [f"{name}.fp16"], [name], to=TensorProto.FLOAT))
    stored: TensorProto = numpy_helper.from_array(tensor.half().numpy(), f"{name}.fp16")
    return stored


def _packed(values: NDArray[np.uint8], bits: int) -> bytes:
    """Return ONNX's raw bytes: two 4-bit codes a byte, the first in the low half."""
    flat = np.ascontiguousarray(values, np.uint8).reshape(-1)
    if bits > 4:
        return flat.tobytes()
    if len(flat) % 2:
        flat = np.append(flat, np.uint8(0))
    return (flat[0::2] | (flat[1::2] << 4)).tobytes()
