"""BatchNorm folded into the convolution before it, with the factor that each channel's weights took.

A weight on a grid stays on one: its codes are kept, and its scales take the factor. ONNX Runtime folds as
well, but does not tell the factors.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

Floats = NDArray[np.float32]


def fold_norms(model: ModelProto) -> dict[str, Floats]:
    """Fold BatchNorm into convolutions, in place; return weight → the factor of each output channel.

    Only where nothing else reads the convolution or shares its tensors; the rest stays as it is.
    """
    from onnx import numpy_helper

    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    readers = Counter(name for node in model.graph.node for name in node.input)
    outputs = {entry.name for entry in model.graph.output}
    made = {node.output[0]: node for node in model.graph.node}
    factors: dict[str, Floats] = {}
    for norm in [node for node in model.graph.node if node.op_type == "BatchNormalization"]:
        conv = made.get(norm.input[0])
        if conv is None or conv.op_type != "Conv" or norm.input[0] in outputs:
            continue
        constant = {*conv.input[1:], *norm.input[1:]} <= tensors.keys()
        if not constant or any(readers[name] > 1 for name in (norm.input[0], *conv.input[1:])):
            continue
        factor, shift = _affine(norm, tensors)
        weight = numpy_helper.to_array(tensors[conv.input[1]])
        _replace(tensors[conv.input[1]], weight * factor.reshape(-1, *[1] * (weight.ndim - 1)))
        if len(conv.input) > 2:
            _replace(tensors[conv.input[2]], numpy_helper.to_array(tensors[conv.input[2]]) * factor + shift)
        else:
            bias = f"{norm.output[0]}.bias"
            model.graph.initializer.append(numpy_helper.from_array(shift, bias))
            conv.input.append(bias)
        conv.output[0] = norm.output[0]
        model.graph.node.remove(norm)
        factors[conv.input[1]] = factor
    _drop_unread(model)
    return factors


def _affine(norm: NodeProto, tensors: dict[str, TensorProto]) -> tuple[Floats, Floats]:
    """Return what the BatchNorm multiplies by and adds, ``(channels,)`` each."""
    from onnx import helper, numpy_helper

    scale, bias, mean, variance = (numpy_helper.to_array(tensors[name]).astype(np.float64) for name in norm.input[1:])
    given: dict[str, Any] = {entry.name: helper.get_attribute_value(entry) for entry in norm.attribute}
    factor = scale / np.sqrt(variance + given.get("epsilon", 1e-5))
    return factor.astype(np.float32), (bias - mean * factor).astype(np.float32)


def _replace(tensor: TensorProto, values: NDArray[Any]) -> None:
    from onnx import numpy_helper

    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values, np.float32), tensor.name))


def _drop_unread(model: ModelProto) -> None:
    """Leave out initializers that no node reads any more."""
    read = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
