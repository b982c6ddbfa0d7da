"""An ONNX graph as light plain data: nodes, weight shapes and tensor shapes, without the weights.

Reading takes about a millisecond for ResNet-20, so that a slider move can afford it; a graph whose
channels changed can also be derived with :func:`resize`, without any protobuf.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    import onnx

Shape = tuple[int, ...]

#: Nodes that ONNX Runtime removes; their output is their first input.
_ALIASES = frozenset({"Identity", "Dropout", "QuantizeLinear", "DequantizeLinear"})
#: Constants larger than this are weights: their shape matters, not their values.
_SMALL = 16


class GraphError(WorkbenchError):
    """The ONNX graph cannot be read for latency."""


@dataclass(frozen=True)
class Node:
    """One ONNX operator; ``inputs`` are tensor names, empty where an optional input is absent."""

    op: str
    name: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class Graph:
    """Nodes in order, shapes of the weights, values of small constants.

    ``int8``: whether the graph held QuantizeLinear nodes (they are left out of ``nodes``, since the
    kernels say what runs). ``image_shape``: ``(C, H, W)`` where the graph's input declares it.
    """

    nodes: tuple[Node, ...]
    weights: Mapping[str, Shape]
    constants: Mapping[str, np.ndarray]
    input: str
    outputs: tuple[str, ...]
    image_shape: Shape | None
    int8: bool


def read_graph(model: onnx.ModelProto | bytes) -> Graph:
    """Read ``model``; raise :class:`GraphError` unless it has exactly one input."""
    graph = _proto(model).graph
    weights: dict[str, Shape] = {}
    constants: dict[str, np.ndarray] = {}
    for tensor in graph.initializer:
        _keep(tensor.name, tensor, weights, constants)
    inputs = [entry for entry in graph.input if entry.name not in weights]
    if len(inputs) != 1:
        raise GraphError(f"Latency is predicted for models with one input; this one has {len(inputs)}.")
    alias: dict[str, str] = {}
    nodes = []
    int8 = False
    for proto in graph.node:
        op = proto.op_type
        names = tuple(alias.get(name, name) for name in proto.input)
        if op == "Constant":
            _keep_constant(proto, weights, constants)
            continue
        if op in _ALIASES:
            int8 = int8 or op == "QuantizeLinear"
            alias[proto.output[0]] = names[0]
            continue
        attributes = {entry.name: _value(entry) for entry in proto.attribute}
        nodes.append(Node(op, proto.name or proto.output[0], names, proto.output[0], attributes))
    dims = inputs[0].type.tensor_type.shape.dim
    shape = tuple(entry.dim_value for entry in dims[1:])
    outputs = tuple(alias.get(entry.name, entry.name) for entry in graph.output)
    known = shape if shape and all(shape) else None
    return Graph(tuple(nodes), weights, constants, inputs[0].name, outputs, known, int8)


def resize(graph: Graph, shapes: Mapping[str, Shape]) -> Graph:
    """Return ``graph`` with other weight shapes (initializer name → shape); the rest stays."""
    unknown = sorted(set(shapes) - set(graph.weights))
    if unknown:
        raise GraphError(f"The graph has no weight named {unknown[0]!r}.")
    return replace(graph, weights={**graph.weights, **shapes})


def regroup(graph: Graph, groups: Mapping[str, int]) -> Graph:
    """Return ``graph`` whose convolutions with the weights ``groups`` names have so many groups."""
    if not groups:
        return graph
    nodes = (
        replace(node, attributes={**node.attributes, "group": groups[node.inputs[1]]})
        if node.op == "Conv" and node.inputs[1] in groups
        else node
        for node in graph.nodes
    )
    return replace(graph, nodes=tuple(nodes))


def infer_shapes(graph: Graph, image_shape: Shape | None = None, batch: int = 1) -> dict[str, Shape]:
    """Return tensor name → shape for a batch of images ``(C, H, W)``."""
    image = image_shape or graph.image_shape
    if image is None:
        raise GraphError("The graph does not declare its image size; give image_shape=(C, H, W).")
    shapes: dict[str, Shape] = {graph.input: (batch, *image), **graph.weights}
    for node in graph.nodes:
        rule = _RULES.get(node.op, _broadcast)
        try:
            shapes[node.output] = rule(node, shapes, graph.constants)
        except (KeyError, IndexError, ValueError) as error:
            raise GraphError(f"The shape of {node.op} node {node.name!r} could not be inferred.") from error
    return shapes


def _proto(model: onnx.ModelProto | bytes) -> onnx.ModelProto:
    if not isinstance(model, bytes):
        return model
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx.load_from_string(model)
    except DecodeError as error:
        raise GraphError("These bytes are not an ONNX model.") from error


def _keep(name: str, tensor: Any, weights: dict[str, Shape], constants: dict[str, np.ndarray]) -> None:
    shape = tuple(tensor.dims)
    weights[name] = shape
    if math.prod(shape) <= _SMALL and tensor.data_location == 0 and tensor.data_type <= 13:
        from onnx import numpy_helper

        constants[name] = numpy_helper.to_array(tensor)


def _keep_constant(proto: Any, weights: dict[str, Shape], constants: dict[str, np.ndarray]) -> None:
    value = _value(proto.attribute[0])
    if hasattr(value, "dims"):
        _keep(proto.output[0], value, weights, constants)
    else:
        constants[proto.output[0]] = np.asarray(value)
        weights[proto.output[0]] = constants[proto.output[0]].shape


def _value(attribute: Any) -> Any:
    match attribute.type:
        case 1:
            return attribute.f
        case 2:
            return attribute.i
        case 3:
            return attribute.s.decode()
        case 4:
            return attribute.t
        case 6:
            return tuple(attribute.floats)
        case 7:
            return tuple(attribute.ints)
        case _:
            return None


Shapes = Mapping[str, Shape]
Constants = Mapping[str, np.ndarray]


def window(node: Node, image: Shape, kernel: Shape) -> Shape:
    """Return the output height and width of a convolution or pool over an ``image`` (H, W)."""
    rank = len(image)
    strides = node.attributes.get("strides") or (1,) * rank
    dilations = node.attributes.get("dilations") or (1,) * rank
    pads = node.attributes.get("pads") or (0,) * (2 * rank)
    if node.attributes.get("auto_pad", "NOTSET") in ("SAME_UPPER", "SAME_LOWER"):
        return tuple(-(-size // stride) for size, stride in zip(image, strides, strict=True))
    sizes = []
    for axis, size in enumerate(image):
        free = size + pads[axis] + pads[axis + rank] - dilations[axis] * (kernel[axis] - 1) - 1
        steps = -(-free // strides[axis]) if node.attributes.get("ceil_mode") else free // strides[axis]
        sizes.append(steps + 1)
    if min(sizes) < 1:
        raise ValueError("window larger than image")
    return tuple(sizes)


def _conv(node: Node, shapes: Shapes, constants: Constants) -> Shape:
    image, weight = shapes[node.inputs[0]], shapes[node.inputs[1]]
    return (image[0], weight[0], *window(node, image[2:], weight[2:]))


def _pool(node: Node, shapes: Shapes, constants: Constants) -> Shape:
    image = shapes[node.inputs[0]]
    return (*image[:2], *window(node, image[2:], node.attributes["kernel_shape"]))


def _global_pool(node: Node, shapes: Shapes, constants: Constants) -> Shape:
    image = shapes[node.inputs[0]]
    return (*image[:2], *(1 for _ in image[2:]))


def _gemm(node: Node, shapes: Shapes, constants: Constants) -> Shape:
    rows, weight = shapes[node.inputs[0]], shapes[node.inputs[1]]
    return (rows[0], weight[0] if node.attributes.get("transB") else weight[1])


def _matmul(node: Node, shapes: Shapes, constants: Constants) -> Shape:
    left, right = shapes[node.inputs[0]], shapes[node.inputs[1]]
    return (*np.broadcast_shapes(left[:-2], right[:-2]), left[-2], right[-1])


def _flatten(node: Node, shapes: Shapes, constants: Constants) -> Shape:
    shape, axis = shapes[node.inputs[0]], node.attributes.get("axis", 1)
    return (math.prod(shape[:axis]), math.prod(shape[axis:]))


def _reshape(node: Node, shapes: Shapes, constants: Constants) -> Shape:
    shape = shapes[node.inputs[0]]
    wanted = [int(size) for size in np.ravel(constants[node.inputs[1]])]
    if not node.attributes.get("allowzero"):
        wanted = [shape[axis] if size == 0 else size for axis, size in enumerate(wanted)]
    fixed = math.prod(size for size in wanted if size != -1)
    if -1 not in wanted and fixed != math.prod(shape) and len(wanted) == 2:
        return (shape[0], math.prod(shape) // shape[0])  # channels were cut: keep (batch, features)
    return tuple(math.prod(shape) // fixed if size == -1 else size for size in wanted)


def _reduce(node: Node, shapes: Shapes, constants: Constants) -> Shape:
    shape = shapes[node.inputs[0]]
    axes = node.attributes.get("axes")
    if axes is None and len(node.inputs) > 1 and node.inputs[1]:
        axes = tuple(int(axis) for axis in np.ravel(constants[node.inputs[1]]))
    gone = {axis % len(shape) for axis in (axes or range(len(shape)))}
    if node.attributes.get("keepdims", 1):
        return tuple(1 if axis in gone else size for axis, size in enumerate(shape))
    return tuple(size for axis, size in enumerate(shape) if axis not in gone)


def _concat(node: Node, shapes: Shapes, constants: Constants) -> Shape:
    parts = [shapes[name] for name in node.inputs]
    axis = node.attributes["axis"] % len(parts[0])
    return (*parts[0][:axis], sum(part[axis] for part in parts), *parts[0][axis + 1 :])


def _transpose(node: Node, shapes: Shapes, constants: Constants) -> Shape:
    shape = shapes[node.inputs[0]]
    if len(shape) > 4:
        raise ValueError("its time depends on more than its elements")  # as in a channel shuffle
    order = node.attributes.get("perm") or tuple(reversed(range(len(shape))))
    return tuple(shape[axis] for axis in order)


#: Operators that change shapes in ways that are not followed here.
_OTHER_SHAPES = frozenset({
    "Shape", "Gather", "Unsqueeze", "Squeeze", "Slice", "Split", "Expand", "Tile", "Pad", "Resize", "Upsample",
    "ConvTranspose", "DepthToSpace", "SpaceToDepth", "Einsum", "LSTM", "GRU", "RNN", "TopK", "ArgMax", "Range",
    "GatherElements", "GatherND", "ConstantOfShape", "OneHot", "NonZero",
})  # fmt: skip


def _broadcast(node: Node, shapes: Shapes, constants: Constants) -> Shape:
    """Elementwise nodes; others are taken to keep the shape of their first input unless they are known not to."""
    if node.op in _OTHER_SHAPES:
        raise ValueError(f"{node.op} is not followed")
    first = shapes[node.inputs[0]]
    if node.op in {"Add", "Sub", "Mul", "Div", "Sum", "Pow", "Max", "Min"}:
        return tuple(np.broadcast_shapes(*(shapes[name] for name in node.inputs)))
    return first


_RULES = {
    "Conv": _conv,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "ReduceMean": _reduce,
    "ReduceMax": _reduce,
    "ReduceSum": _reduce,
    "Concat": _concat,
    "Transpose": _transpose,
}
