"""Shapes that a traced graph computes anew in every run, written into it.

Code that asks for ``x.shape`` is traced to nodes that take the shape apart and put it together again; in
ShuffleNetV2 they are two thirds of all nodes and 40 % of the time. Only the batch is unknown when the graph is
written, and which channels a recipe will remove. So the sizes of whatever depends on neither are put into the
targets of Reshape nodes, where 0 keeps the batch and -1 is left for what channels decide, and slices that cut an
axis into equal parts become one Split. All other nodes stay as they are. The exporter that does not trace writes
counts of channels as the numbers they are: where only one of a target's can be such a count, it is left as well.

What does not depend on channels is found by inferring shapes with those of all weights unknown, but for windows.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeProto

#: A size that is known, the name of one that is not (the batch's, say), or None.
Size = int | str | None
#: Known sizes: a tensor and its axis.
Known = Mapping[tuple[str, int], int]

_ARITHMETIC = {"Add": int.__add__, "Sub": int.__sub__, "Mul": int.__mul__, "Div": int.__floordiv__}
#: What nodes do with sizes, and with axes, without changing them.
_ON_SIZES = {"Cast", "Identity", "Unsqueeze", "Squeeze", "Reshape"}
#: Constants with more elements than this are no shapes.
_MOST = 16


def write_shapes(model: ModelProto, weights: Collection[str]) -> None:
    """Put sizes that depend on nothing but the image's into the graph of ``model``, in place.

    ``weights`` names the initializers whose sizes recipes may change.
    """
    graph = model.graph
    if all(node.op_type != "Shape" for node in graph.node):
        return
    if any(attribute.HasField("g") for node in graph.node for attribute in node.attribute):
        return  # branches read values of the graph around them
    sizes = _Sizes(model, weights)
    parts = {one.output[0]: group for group in _slices(graph.node) for one in group}
    kept: list[NodeProto] = []
    cut: set[str] = set()
    for node in graph.node:
        if node.op_type == "Reshape" and sizes.is_computed(node.input[1]):
            _write_target(graph, node, sizes)
        group = parts.get(node.output[0])
        if group and node.output[0] == group[0].output[0] and sizes.are_equal_parts(group):
            node = sizes.split(group)
            cut.update(node.output)
        elif node.output[0] in cut:
            continue
        sizes.infer(node)
        kept.append(node)
    _keep_read(graph, kept)


class _Sizes:
    """What is known of shapes, which grows node by node, and of the numbers that are computed from them."""

    def __init__(self, model: ModelProto, weights: Collection[str]) -> None:
        import onnx
        from onnx import helper

        self._opset = list(model.opset_import)
        self._version = next(entry.version for entry in model.opset_import if not entry.domain)
        self._types: dict[str, TypeProto] = {entry.name: entry.type for entry in model.graph.input}
        self._made = {name: node for node in model.graph.node for name in node.output}
        self._constants: dict[str, TensorProto] = {}
        for tensor in model.graph.initializer:
            if tensor.name in weights:
                dims = [size if axis > 1 else None for axis, size in enumerate(tensor.dims)]
                self._types[tensor.name] = helper.make_tensor_type_proto(tensor.data_type, dims)
            else:
                self.keep(tensor)
        for node in model.graph.node:
            if node.op_type == "Constant" and node.attribute[0].name in ("value", "value_int", "value_ints"):
                constant = onnx.TensorProto()
                constant.CopyFrom(_tensor(node.attribute[0]))
                constant.name = node.output[0]
                self.keep(constant)

    def keep(self, tensor: TensorProto) -> None:
        """Note a constant, whose values matter where it may be a shape."""
        from onnx import helper

        self._types[tensor.name] = helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))
        if len(tensor.dims) <= 1 and math.prod(tensor.dims) <= _MOST:
            self._constants[tensor.name] = tensor

    def infer(self, node: NodeProto) -> None:
        """Note the shapes of what ``node`` makes."""
        from onnx import defs, shape_inference

        if any(name and name not in self._types for name in node.input):
            return
        types = {name: self._types[name] for name in node.input if name}
        data = {name: constant for name in types if (constant := self._constants.get(name) or self._moved(name))}
        try:
            schema = defs.get_schema(node.op_type, self._version, node.domain)
            found = shape_inference.infer_node_outputs(schema, node, types, data, opset_imports=self._opset)
        except (RuntimeError, defs.SchemaError):  # nothing is known then
            return
        self._types.update(found)

    def _moved(self, name: str) -> TensorProto | None:
        """Return the numbers that nodes made of constants and sizes, such as axes."""
        from onnx import TensorProto, numpy_helper

        shape, kind = self.shape(name), self._types[name].tensor_type.elem_type
        if kind != TensorProto.INT64 or shape is None or len(shape) > 1 or name not in self._made:
            return None
        numbers = self.values(name)
        if not numbers or any(not isinstance(number, int) for number in numbers):
            return None
        return numpy_helper.from_array(np.array(numbers if shape else numbers[0], np.int64), name)

    def is_computed(self, *names: str) -> bool:
        """Whether one of these is no constant."""
        return any(name not in self._constants for name in names)

    def shape(self, name: str) -> tuple[Size, ...] | None:
        """Return the sizes of a tensor's axes; None where not even their number is known."""
        kind = self._types.get(name)
        if kind is None or not kind.tensor_type.HasField("shape"):
            return None
        dims = kind.tensor_type.shape.dim
        return tuple(dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None for dim in dims)

    def values(self, name: str, known: Known | None = None) -> list[Size] | None:
        """Return the elements of a vector (or scalar) of sizes; None where it is none.

        ``known`` takes sizes for granted.
        """
        from onnx import numpy_helper

        if name in self._constants:
            array = np.ravel(numpy_helper.to_array(self._constants[name]))
            return [int(value) for value in array] if array.dtype.kind == "i" else None
        node = self._made.get(name)
        if node is None:
            return None
        if node.op_type == "Shape":
            shape = self.shape(node.input[0])
            if shape is None:
                return None
            sizes = [(known or {}).get((node.input[0], axis), size) for axis, size in enumerate(shape)]
            ends = {attribute.name: attribute.i for attribute in node.attribute}
            return sizes[ends.get("start", 0) : ends.get("end", len(sizes))]
        inputs = [found for each in node.input if (found := self.values(each, known)) is not None]
        if inputs and node.op_type in _ON_SIZES:  # which stay what they are
            return inputs[0]
        return _compute(node.op_type, inputs) if len(inputs) == len(node.input) else None

    def are_equal_parts(self, slices: list[NodeProto]) -> bool:
        """Whether slices, in order, are what Split makes of an axis, however long it is."""
        data, axis = slices[0].input[0], self._axis(slices[0])
        steps = (self.values(one.input[4]) for one in slices if len(one.input) > 4)
        if axis is None or any(step != [1] for step in steps):
            return False
        count = len(slices)
        for length in range(count, 6 * count):
            known, step = {(data, axis): length}, -(-length // count)
            for place, one in enumerate(slices):
                ends = [self.values(name, known) for name in one.input[1:3]]
                numbers = [min(end[0], length) for end in ends if end and isinstance(end[0], int)]
                if numbers != [min(place * step, length), min((place + 1) * step, length)]:
                    return False
        return True

    def split(self, slices: list[NodeProto]) -> NodeProto:
        """Return the one node that does what equal ``slices`` do."""
        from onnx import helper

        outputs = [one.output[0] for one in slices]
        first, count = slices[0], len(slices)
        return helper.make_node(
            "Split", first.input[:1], outputs, first.name, axis=self._axis(first), num_outputs=count
        )

    def _axis(self, node: NodeProto) -> int | None:
        axes = self.values(node.input[3])
        return axes[0] if axes and len(axes) == 1 and isinstance(axes[0], int) and axes[0] >= 0 else None


def _tensor(attribute: AttributeProto) -> TensorProto:
    """Return what a Constant holds, a tensor or integers."""
    from onnx import helper, numpy_helper

    held = helper.get_attribute_value(attribute)
    return held if attribute.HasField("t") else numpy_helper.from_array(np.array(held, np.int64))


def _compute(kind: str, inputs: list[list[Size]]) -> list[Size] | None:
    if kind == "Concat":
        return [size for each in inputs for size in each]
    if kind == "Gather":
        values, places = inputs
        known = [place for place in places if isinstance(place, int) and -len(values) <= place < len(values)]
        return [values[place] for place in known] if len(known) == len(places) else None
    if kind in _ARITHMETIC and len(inputs[0]) == len(inputs[1]):
        return [_apply(kind, left, right) for left, right in zip(*inputs, strict=True)]
    return None


def _apply(kind: str, left: Size, right: Size) -> Size:
    if isinstance(left, int) and isinstance(right, int) and not (kind == "Div" and (right <= 0 or left < 0)):
        return _ARITHMETIC[kind](left, right)
    return None


def _write_target(graph: GraphProto, node: NodeProto, sizes: _Sizes) -> None:
    """Give a Reshape its target in numbers, unless more than one size is open."""
    from onnx import numpy_helper

    wanted, shape = sizes.values(node.input[1]), sizes.shape(node.input[0]) or ()
    if wanted is None:
        return
    kept = [isinstance(size, str) and shape[axis : axis + 1] == (size,) for axis, size in enumerate(wanted)]
    target = [0 if same else size if isinstance(size, int) else -1 for same, size in zip(kept, wanted, strict=True)]
    counts = [place for place, size in enumerate(target) if size > 1]
    if -1 not in target and len(counts) == 1 and None in shape:
        target[counts[0]] = -1
    if target.count(-1) > 1:
        return
    kept_attributes = [attribute for attribute in node.attribute if attribute.name != "allowzero"]  # 0 keeps a size
    del node.attribute[:]
    node.attribute.extend(kept_attributes)
    constant = numpy_helper.from_array(np.array(target, np.int64), f"{node.output[0]}_shape")
    node.input[1] = constant.name
    graph.initializer.append(constant)
    sizes.keep(constant)


def _slices(nodes: Iterable[NodeProto]) -> list[list[NodeProto]]:
    """Return the groups of slices that cut one tensor along one axis."""
    groups: dict[tuple[str, str], list[NodeProto]] = defaultdict(list)
    for node in nodes:
        if node.op_type == "Slice" and len(node.input) > 3:
            groups[node.input[0], node.input[3]].append(node)
    return [group for group in groups.values() if len(group) > 1]


def _keep_read(graph: GraphProto, nodes: list[NodeProto]) -> None:
    """Leave in the graph those of ``nodes`` that something reads."""
    read = {entry.name for entry in graph.output}
    kept = []
    for node in reversed(nodes):  # whoever reads a value comes first
        if read & set(node.output):
            read.update(node.input)
            kept.append(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))
