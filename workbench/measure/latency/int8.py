"""Which kernels a quantized graph runs on.

Every operator between the first QuantizeLinear and the last DequantizeLinear runs on unsigned 8-bit
tensors with the channels last; activations disappear into the range of their input. Source:
``onnxruntime/core/optimizer/qdq_transformer`` and ``nhwc_transformer.cc``.
"""

from __future__ import annotations

from .graph import Graph, Node, Shape
from .plan import VIEWS, Plan, is_depthwise

#: Operators for which ONNX Runtime has an 8-bit kernel, and those of them that take channels last.
_INT8 = VIEWS | {
    "Conv", "Gemm", "MatMul", "Add", "Mul", "MaxPool", "AveragePool", "GlobalAveragePool", "Concat",
    "LeakyRelu", "Sigmoid",
}  # fmt: skip
_LAST = frozenset({"Conv", "Add", "Mul", "MaxPool", "AveragePool", "GlobalAveragePool", "Concat"})


class Int8Plan(Plan):
    """Follows a quantized graph, or a float graph as if it were quantized."""

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
        if node.op in VIEWS and sources[0] not in self.quantized:
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
        self.emit(node, "View" if node.op in VIEWS else node.op, "fp32", "")
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
    if node.op in VIEWS:
        return "View"
    return "DepthwiseConv" if node.op == "Conv" and is_depthwise(node, shapes) else node.op
