"""Which kernels ONNX Runtime's CPU provider will run for a graph, after its fusions.

ONNX Runtime rewrites a graph before it runs it, and the rewriting decides the time as much as the
operation count does. This module follows the rewriting without making a session:

* fp32: BatchNorm, activations and residual additions go into the convolution. Convolutions run on a
  blocked layout (NCHWc) of 8 or 16 channels to a block, for which channels are padded. Input
  channels that fill a block but are no multiple of 4 cannot be blocked: such a convolution takes the
  slower im2col path, and tensors are reordered between the two. Fewer input channels than a block are
  read unblocked. (``onnxruntime/core/optimizer/nchwc_transformer.cc``.)
* int8: every operator between the first QuantizeLinear and the last DequantizeLinear runs on unsigned
  8-bit tensors with the channels last; activations disappear into the range of their input.
  (``core/optimizer/qdq_transformer``, ``nhwc_transformer.cc``.)

The tests hold the result against the graphs that ONNX Runtime itself writes.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from .graph import Graph, Node, Shape, infer_shapes, read_graph

if TYPE_CHECKING:
    import onnx

Layout = Literal["blocked", "direct", "plain", "last", ""]
_BLOCKS = ("blocked", "direct")

_ACTIVATIONS = frozenset({"Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid"})
_BLOCKED_ACTIVATIONS = frozenset({"Relu", "Sigmoid", "Tanh", "HardSigmoid"})
_POOLS = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"})
_VIEWS = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})
#: Operators for which ONNX Runtime has an 8-bit kernel, and those of them that take channels last.
_INT8 = frozenset({"Conv", "Gemm", "MatMul", "Add", "Mul", "MaxPool", "AveragePool", "GlobalAveragePool",
                   "Concat", "LeakyRelu", "Sigmoid"}) | _VIEWS  # fmt: skip
_LAST = frozenset({"Conv", "Add", "Mul", "MaxPool", "AveragePool", "GlobalAveragePool", "Concat"})
#: NCHWc needs channels in multiples of this many.
ALIGNMENT = 4


@dataclass(frozen=True)
class Kernel:
    """One call that ONNX Runtime makes, with all that its time depends on.

    ``type`` is the ONNX operator, or DepthwiseConv, ReorderInput, ReorderOutput. ``layout``: blocked
    (NCHWc), direct (reads plain, writes blocked), plain (NCHW), last (NHWC), "" where it has no say. ``inputs`` and ``outputs`` are
    channels (features of a Gemm); ``image`` and ``output_image`` height and width. ``fused`` names the
    operators that it took in; ``bytes`` counts activations and weights read and written once.
    ``weight`` is the initializer that belongs to it, by which time is attributed to layers.
    """

    name: str
    type: str
    dtype: Literal["fp32", "int8"]
    layout: Layout
    inputs: int
    outputs: int
    image: Shape
    output_image: Shape
    window: Shape = ()
    stride: Shape = ()
    groups: int = 1
    batch: int = 1
    fused: tuple[str, ...] = ()
    macs: int = 0
    bytes: int = 0
    weight: str = ""


def fused_kernels(
    model: onnx.ModelProto | bytes | Graph,
    image_shape: Shape | None = None,
    batch: int = 1,
    *,
    int8: bool = False,
    block: int = 16,
) -> tuple[Kernel, ...]:
    """Return the kernels ONNX Runtime will run for ``batch`` images ``(C, H, W)``, in order.

    A graph that holds QuantizeLinear nodes is an int8 graph; ``int8=True`` asks what an fp32 graph
    would run after :func:`workbench.deploy.qdq.export_int8`. ``block``: channels in a block of the
    NCHWc layout (16 with AVX-512, 8 with AVX2; 0 where ONNX Runtime has no blocked layout).
    """
    graph = model if isinstance(model, Graph) else read_graph(model)
    shapes = infer_shapes(graph, image_shape, batch)
    plan: _Plan = _Int8Plan(graph, shapes) if int8 or graph.int8 else _Fp32Plan(graph, shapes, block)
    for node in _without_batchnorm(graph):
        plan.add(node)
    plan.finish()
    return tuple(draft.kernel(shapes) for draft in plan.drafts)


@dataclass
class _Draft:
    """A kernel that may still take in the operators behind it."""

    node: Node
    type: str
    dtype: Literal["fp32", "int8"]
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


class _Plan:
    """What both ways of running share: drafts in order, and who reads which tensor."""

    def __init__(self, graph: Graph, shapes: dict[str, Shape]) -> None:
        self.graph, self.shapes = graph, shapes
        self.drafts: list[_Draft] = []
        self.made: dict[str, _Draft] = {}
        self.readers = Counter(name for node in graph.nodes for name in node.inputs)
        self.readers.update(graph.outputs)

    def add(self, node: Node) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        raise NotImplementedError

    def emit(self, node: Node, kind: str, dtype: Literal["fp32", "int8"], layout: Layout) -> _Draft:
        draft = _Draft(node, kind, dtype, layout, node.output)
        self.drafts.append(draft)
        self.made[node.output] = draft
        return draft

    def move(self, kind: str, tensor: str, dtype: Literal["fp32", "int8"], layout: Layout = "") -> None:
        """Add a kernel that only changes the layout or type of ``tensor``."""
        node = Node(kind, f"{kind} of {tensor}", (tensor,), tensor, {})
        self.drafts.append(_Draft(node, kind, dtype, layout, tensor))

    def take_in(self, draft: _Draft, node: Node) -> None:
        """Fuse ``node`` into ``draft``, whose only reader it is."""
        draft.fused.append(node.op)
        draft.output = node.output
        self.made[node.output] = draft

    def single(self, tensor: str) -> _Draft | None:
        """Return the draft that makes ``tensor``, if nothing but one node reads it."""
        return self.made.get(tensor) if self.readers[tensor] == 1 else None


class _Fp32Plan(_Plan):
    def __init__(self, graph: Graph, shapes: dict[str, Shape], block: int) -> None:
        super().__init__(graph, shapes)
        self.block = block
        self.blocked: set[str] = set()  # tensors made in NCHWc
        self.reordered: set[str] = set()  # tensors that were brought into it
        self.plain: set[str] = {graph.input}  # tensors that exist as ONNX describes them

    def add(self, node: Node) -> None:
        if node.op == "Conv":
            self._conv(node)
        elif node.op in _ACTIVATIONS and self._activation(node):
            pass
        elif node.op in {"Add", "Sum"} and self._addition(node):
            pass
        elif self._stays_blocked(node):
            self.emit(node, node.op, "fp32", "blocked")
            self.blocked.add(node.output)
        else:
            self._plain_node(node)

    def finish(self) -> None:
        for name in self.graph.outputs:
            self._need_plain(name)

    def _conv(self, node: Node) -> None:
        weight = self.shapes[node.inputs[1]]
        groups = int(node.attributes.get("group", 1))
        depthwise = _is_depthwise(node, self.shapes)
        kind = "DepthwiseConv" if depthwise else "Conv"
        way: Layout = self._way(weight, groups, depthwise) if len(weight) == 4 else "plain"
        if way == "blocked":
            self._need_blocked(node.inputs[0])
        else:
            self._need_plain(node.inputs[0])
        self.emit(node, kind, "fp32", way)
        (self.plain if way == "plain" else self.blocked).add(node.output)

    def _way(self, weight: Shape, groups: int, depthwise: bool) -> Layout:
        """Return how a two-dimensional convolution of these groups runs."""
        outputs, inputs = weight[:2]
        if not self.block or (groups > 1 and outputs % ALIGNMENT):
            return "plain"
        if depthwise:
            return "blocked"
        if groups > 1:
            whole = inputs % self.block == 0 and outputs % groups == 0 and outputs // groups % self.block == 0
            return "blocked" if whole else "plain"
        if inputs < self.block:
            return "direct"
        return "blocked" if inputs % ALIGNMENT == 0 else "plain"

    def _activation(self, node: Node) -> bool:
        source = node.inputs[0]
        draft = self.single(source)
        if draft is None or draft.type not in {"Conv", "DepthwiseConv", "Gemm"}:
            return self._blocked_activation(node)
        if draft.fused and (draft.fused[-1] != "Add" or node.op not in _BLOCKED_ACTIVATIONS):
            return False
        self.take_in(draft, node)
        (self.blocked if draft.layout in _BLOCKS else self.plain).add(node.output)
        return True

    def _blocked_activation(self, node: Node) -> bool:
        if node.inputs[0] not in self.blocked or node.op not in _BLOCKED_ACTIVATIONS:
            return False
        self.emit(node, node.op, "fp32", "blocked")
        self.blocked.add(node.output)
        return True

    def _addition(self, node: Node) -> bool:
        """Fuse an addition into the convolution before it, if both terms have its layout."""
        left, right = node.inputs[:2]
        if len(node.inputs) != 2 or self.shapes.get(left) != self.shapes.get(right):
            return False
        both = left in self.blocked and right in self.blocked
        for name in (left, right):
            draft = self.single(name)
            if draft is None or draft.fused or draft.type not in {"Conv", "DepthwiseConv"}:
                continue
            if (draft.layout in _BLOCKS) != both:
                continue
            if not both:
                self._need_plain(left)
                self._need_plain(right)
            self.drafts.remove(draft)
            self.drafts.append(draft)
            self.take_in(draft, node)
            (self.blocked if both else self.plain).add(node.output)
            return True
        return False

    def _stays_blocked(self, node: Node) -> bool:
        inputs = [name for name in node.inputs if name and name not in self.graph.weights]
        if not self.block or not inputs or any(len(self.shapes[name]) != 4 for name in inputs):
            return False
        aligned = all(self.shapes[name][1] % self.block == 0 for name in inputs)
        blocked = all(name in self.blocked for name in inputs)
        if node.op in _POOLS:
            return blocked and aligned
        if node.op in {"Add", "Sum", "Mul"}:
            same = len({self.shapes[name] for name in inputs}) == 1
            return blocked and same and len(inputs) == len(node.inputs)
        return node.op == "Concat" and blocked and aligned and node.attributes.get("axis") == 1

    def _plain_node(self, node: Node) -> None:
        for name in node.inputs:
            self._need_plain(name)
        kind = "View" if node.op in _VIEWS else node.op
        self.emit(node, kind, "fp32", "plain" if len(self.shapes[node.output]) == 4 else "")
        self.plain.add(node.output)

    def _need_blocked(self, name: str) -> None:
        if name not in self.blocked and name not in self.reordered:
            self.move("ReorderInput", name, "fp32")
            self.reordered.add(name)

    def _need_plain(self, name: str) -> None:
        if name in self.blocked and name not in self.plain:
            self.move("ReorderOutput", name, "fp32")
            self.plain.add(name)


class _Int8Plan(_Plan):
    def __init__(self, graph: Graph, shapes: dict[str, Shape]) -> None:
        super().__init__(graph, shapes)
        self.last: set[str] = set()  # tensors with the channels last
        self.first: set[str] = {graph.input}  # tensors with the channels first
        self.quantized: set[str] = set()
        self.real: set[str] = {graph.input}

    def add(self, node: Node) -> None:
        if node.op in {"Relu", "Clip"} and node.inputs[0] in self.made:
            draft = self.made[node.inputs[0]]
            if draft.type in {"Conv", "DepthwiseConv", "Gemm", "Add"} and self.readers[node.inputs[0]] == 1:
                self.take_in(draft, node)
                self._becomes(node.output, draft.layout == "last", True)
                return
        if node.op not in _INT8:
            self._float_node(node)
            return
        sources = [name for name in node.inputs if name and name not in self.graph.weights]
        # A leading view works on floats: ONNX Runtime quantizes behind it.
        if node.op in _VIEWS and sources[0] not in self.quantized:
            self._float_node(node)
            return
        for name in sources:
            self._need_quantized(name)
        last = node.op in _LAST and (node.op == "Conv" or any(name in self.last for name in sources))
        for name in sources:
            self._arrange(name, last)
        self.emit(node, _int8_type(node, self.shapes), "int8", "last" if last else "")
        self._becomes(node.output, last, True)

    def finish(self) -> None:
        for name in self.graph.outputs:
            if name not in self.real:
                self._arrange(name, False)
                self.move("DequantizeLinear", name, "int8")

    def _becomes(self, name: str, last: bool, quantized: bool) -> None:
        (self.last if last else self.first).add(name)
        (self.quantized if quantized else self.real).add(name)

    def _float_node(self, node: Node) -> None:
        for name in node.inputs:
            if name in self.quantized and name not in self.real:
                self._arrange(name, False)
                self.move("DequantizeLinear", name, "int8")
                self.real.add(name)
        self.emit(node, "View" if node.op in _VIEWS else node.op, "fp32", "")
        self._becomes(node.output, False, False)

    def _need_quantized(self, name: str) -> None:
        if name not in self.quantized:
            self.move("QuantizeLinear", name, "int8")
            self.quantized.add(name)

    def _arrange(self, name: str, last: bool) -> None:
        there = self.last if last else self.first
        if name not in there:
            self.move("Transpose", name, "int8")
            there.add(name)


def _int8_type(node: Node, shapes: dict[str, Shape]) -> str:
    if node.op in _VIEWS:
        return "View"
    return "DepthwiseConv" if node.op == "Conv" and _is_depthwise(node, shapes) else node.op


def _is_depthwise(node: Node, shapes: dict[str, Shape]) -> bool:
    """Judged by the weight's shape: after :func:`resize` the group count in the node is the old one."""
    weight = shapes[node.inputs[1]]
    return bool(
        node.attributes.get("group", 1) > 1 and weight[1] == 1 and weight[0] == shapes[node.inputs[0]][1]
    )


def _without_batchnorm(graph: Graph) -> list[Node]:
    """Drop each BatchNormalization that only scales a convolution's output: it is folded."""
    readers = Counter(name for node in graph.nodes for name in node.inputs)
    readers.update(graph.outputs)
    producers = {node.output: index for index, node in enumerate(graph.nodes)}
    nodes: list[Node | None] = list(graph.nodes)
    for index, node in enumerate(graph.nodes):
        before = producers.get(node.inputs[0]) if node.op == "BatchNormalization" else None
        if before is None or readers[node.inputs[0]] != 1:
            continue
        conv = nodes[before]
        if conv is not None and conv.op == "Conv":
            nodes[before] = Node("Conv", conv.name, conv.inputs, node.output, conv.attributes)
            nodes[index] = None
    return [node for node in nodes if node is not None]


def _channels(shape: Shape) -> int:
    return shape[1] if len(shape) > 1 else shape[0]
