"""What following ONNX Runtime through a graph needs, whatever the numbers' type."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from .graph import Graph, Node, Shape
from .kernel import Dtype, Kernel, Layout

VIEWS = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})


@dataclass
class Draft:
    """A kernel that may still take in the operators behind it."""

    node: Node
    type: str
    dtype: Dtype
    layout: Layout
    output: str
    channels: tuple[int, int] | None = None
    fused: list[str] = field(default_factory=list)

    def kernel(self, shapes: dict[str, Shape]) -> Kernel:
        node, fp32 = self.node, self.dtype == "fp32"
        source, target = shapes[node.inputs[0]], shapes[node.output]
        weighted = self.type in {"Conv", "DepthwiseConv", "Gemm", "MatMul"}
        weight = shapes[node.inputs[1]] if weighted else ()
        inputs, outputs = self.channels or (_channels(source), _channels(target))
        if self.type == "Gemm" or self.type == "MatMul":
            inputs = source[-1]
        activations = math.prod(source) + math.prod(target) * (2 if "Add" in self.fused else 1)
        if self.type in {"Add", "Mul", "Concat"}:
            activations = sum(math.prod(shapes[name]) for name in node.inputs) + math.prod(target)
        macs = 0
        if self.type in {"Conv", "DepthwiseConv"}:
            macs = math.prod(target) * math.prod(weight[1:])
        elif weighted:
            macs = math.prod(target) * inputs
        return Kernel(
            name=node.name, type=self.type, dtype=self.dtype, layout=self.layout, inputs=inputs,
            outputs=outputs, image=source[2:], output_image=target[2:],
            window=tuple(weight[2:]) or tuple(node.attributes.get("kernel_shape") or ()),
            stride=tuple(node.attributes.get("strides") or ()),
            groups=int(node.attributes.get("group", 1)) if self.type == "Conv" else 1,
            batch=target[0], fused=tuple(self.fused), macs=macs,
            bytes=(activations + math.prod(weight) * weighted) * (4 if fp32 else 1),
            weight=node.inputs[1] if weighted else "",
        )  # fmt: skip


class Plan:
    """What both ways of running share: drafts in order, and who reads which tensor."""

    def __init__(self, graph: Graph, shapes: dict[str, Shape]) -> None:
        self.graph, self.shapes = graph, shapes
        self.drafts: list[Draft] = []
        self.made: dict[str, Draft] = {}
        self.readers = Counter(name for node in graph.nodes for name in node.inputs)
        self.readers.update(graph.outputs)

    def add(self, node: Node) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        raise NotImplementedError

    def emit(self, node: Node, kind: str, dtype: Dtype, layout: Layout) -> Draft:
        draft = Draft(node, kind, dtype, layout, node.output)
        self.drafts.append(draft)
        self.made[node.output] = draft
        return draft

    def move(self, kind: str, tensor: str, dtype: Dtype, layout: Layout = "") -> None:
        """Add a kernel that only changes the layout or type of ``tensor``."""
        node = Node(kind, f"{kind} of {tensor}", (tensor,), tensor, {})
        self.drafts.append(Draft(node, kind, dtype, layout, tensor))

    def take_in(self, draft: Draft, node: Node) -> None:
        """Fuse ``node`` into ``draft``, whose only reader it is."""
        draft.fused.append(node.op)
        draft.output = node.output
        self.made[node.output] = draft

    def single(self, tensor: str) -> Draft | None:
        """Return the draft that makes ``tensor``, if nothing but one node reads it."""
        return self.made.get(tensor) if self.readers[tensor] == 1 else None


def is_depthwise(node: Node, shapes: dict[str, Shape]) -> bool:
    """Judged by the weight's shape: after :func:`resize` the group count in the node is the old one."""
    weight = shapes[node.inputs[1]]
    return bool(node.attributes.get("group", 1) > 1 and weight[1] == 1 and weight[0] == shapes[node.inputs[0]][1])


def _channels(shape: Shape) -> int:
    return shape[1] if len(shape) > 1 else shape[0]
