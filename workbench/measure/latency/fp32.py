"""Which kernels an fp32 graph runs on.

BatchNorm, activations and residual additions go into the convolution. Convolutions run on a blocked
layout (NCHWc) of 8 or 16 channels to a block, for which channels are padded. Input channels that fill a
block but are no multiple of 4 cannot be blocked: such a convolution takes the slower im2col path, and
tensors are reordered between the two. Fewer input channels than a block are read unblocked.
Source: ``onnxruntime/core/optimizer/nchwc_transformer.cc``.
"""

from __future__ import annotations

from .graph import Graph, Node, Shape
from .kernel import ALIGNMENT, BLOCKS, Layout
from .plan import VIEWS, Plan, is_depthwise

_ACTIVATIONS = frozenset({"Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid"})
_BLOCKED_ACTIVATIONS = frozenset({"Relu", "Sigmoid", "Tanh", "HardSigmoid"})
_POOLS = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"})


class Fp32Plan(Plan):
    """Follows a float graph; ``block``: channels in a block of NCHWc, 0 where there is none."""

    def __init__(self, graph: Graph, shapes: dict[str, Shape], block: int) -> None:
        super().__init__(graph, shapes)
        self.block = block
        self.blocked: set[str] = set()  # tensors made in NCHWc
        self.reordered: set[str] = set()  # tensors that were brought into it
        self.plain: set[str] = {graph.input}  # tensors that exist as ONNX describes them

    def add(self, node: Node) -> None:
        if node.op == "Conv":
            self._conv(node)
        elif self._fuses(node):
            pass
        elif self._stays_blocked(node):
            self.emit(node, node.op, "fp32", "blocked")
            self.blocked.add(node.output)
        else:
            self._plain_node(node)

    def _fuses(self, node: Node) -> bool:
        if node.op in _ACTIVATIONS:
            return self._activation(node)
        return node.op in {"Add", "Sum"} and self._addition(node)

    def finish(self) -> None:
        for name in self.graph.outputs:
            self._need_plain(name)

    def _conv(self, node: Node) -> None:
        weight = self.shapes[node.inputs[1]]
        groups = int(node.attributes.get("group", 1))
        depthwise = is_depthwise(node, self.shapes)
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
        (self.blocked if draft.layout in BLOCKS else self.plain).add(node.output)
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
            if (draft.layout in BLOCKS) != both:
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
        kind = "View" if node.op in VIEWS else node.op
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
