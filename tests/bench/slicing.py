"""Zoo models as ONNX graphs, and random structural recipes on them, independent of the pruner."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable

import numpy as np
import onnx
from onnx import numpy_helper

from workbench.measure.latency.graph import Graph, Node, read_graph

#: Nodes whose output has the channels of their (first) input.
_KEEPS = {"BatchNormalization", "Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool", "ReduceMean"}


def export_zoo(name: str) -> onnx.ModelProto:
    """Export an architecture of the zoo with random weights, BatchNorm left in."""
    import torch
    from torch import nn

    from workbench.models.zoo import ARCHITECTURES

    torch.manual_seed(0)
    module = ARCHITECTURES[name]().eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):  # equal tensors would be shared between layers
            for tensor in (part.weight, part.bias, part.running_mean, part.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (torch.randn(2, 1, 28, 28),), buffer, input_names=["input"], output_names=["logits"],
            dynamo=False, opset_version=17, do_constant_folding=False,
            dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}},
        )  # fmt: skip
    return onnx.load_from_string(buffer.getvalue())


def slice_channels(model: onnx.ModelProto, choose: Callable[[int], int]) -> onnx.ModelProto:
    """Return ``model`` with other channel counts: ``choose(old)`` is asked once per coupled group.

    Channels that are added to one another, or pass through a depthwise convolution, share a group.
    Weights are cut or repeated to their new shapes: for timing, not for accuracy.
    """
    graph = read_graph(model)
    groups = _Groups(graph)
    for node in graph.nodes:
        groups.visit(node)
    fixed = {groups.root(groups.of[graph.input]), groups.root(groups.of[graph.outputs[0]])}
    counts: dict[int, int] = {}
    sliced = onnx.ModelProto()
    sliced.CopyFrom(model)
    tensors = {tensor.name: tensor for tensor in sliced.graph.initializer}
    for name, axes in groups.axes.items():
        array = numpy_helper.to_array(tensors[name])
        for axis, (group, factor) in enumerate(axes):
            root = groups.root(group) if group is not None else None
            if root is None or root in fixed:
                continue
            old = array.shape[axis] // factor
            new = counts.setdefault(root, max(1, min(old, choose(old))))
            array = np.take(array, range(new * factor), axis=axis)
        tensors[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), name))
    for proto in sliced.graph.node:
        for entry in proto.attribute:
            if entry.name == "group" and entry.i > 1:
                entry.i = tensors[proto.input[1]].dims[0]
    del sliced.graph.value_info[:]
    return sliced


class _Groups:
    """Which channel axes must be cut together (union-find over tensors and weight axes)."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.parent: list[int] = []
        self.of: dict[str, int] = {graph.input: self.new()}
        self.axes: dict[str, list[tuple[int | None, int]]] = {}

    def new(self) -> int:
        self.parent.append(len(self.parent))
        return len(self.parent) - 1

    def root(self, group: int) -> int:
        while self.parent[group] != group:
            group = self.parent[group]
        return group

    def visit(self, node: Node) -> None:
        weights = self.graph.weights
        source = self.of[node.inputs[0]]
        if node.op == "Conv":
            weight = weights[node.inputs[1]]
            depthwise = node.attributes.get("group", 1) > 1
            target = source if depthwise else self.new()
            self.axes[node.inputs[1]] = [(target, 1), (None if depthwise else source, 1), *([(None, 1)] * 2)]
            for bias in node.inputs[2:]:
                self.axes[bias] = [(target, 1)]
            assert len(weight) == 4
        elif node.op == "Gemm":
            target = self.new()
            features = weights[node.inputs[1]][1 if node.attributes.get("transB") else 0]
            pair = [(target, 1), (source, self._spatial(node, features))]
            self.axes[node.inputs[1]] = pair if node.attributes.get("transB") else pair[::-1]
            self.axes[node.inputs[2]] = [(target, 1)]
        elif node.op == "Add":
            target = source
            self.parent[self.root(self.of[node.inputs[1]])] = self.root(source)
        else:
            target = source
            if node.op == "BatchNormalization":
                for name in node.inputs[1:]:
                    self.axes[name] = [(target, 1)]
            else:
                assert node.op in _KEEPS | {"Flatten", "Reshape"}, node.op
        self.of[node.output] = target

    def _spatial(self, node: Node, features: int) -> int:
        """Pixels per channel where a Gemm reads a flattened image."""
        for name, axes in self.axes.items():
            if axes[0][0] == self.of[node.inputs[0]] and len(axes) > 1:
                return features // self.graph.weights[name][0]
        return features  # the graph's own input: one group, never cut
