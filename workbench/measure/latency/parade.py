"""Graphs that hold many kernels side by side, and the time that each of them takes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .kernel import Kernel
from .profiler import Node, profile
from .sheet import Sheet

#: Operators of ONNX Runtime by the name that kernels.py gives them.
_TYPES = {
    "QLinearGlobalAveragePool": "GlobalAveragePool", "NhwcMaxPool": "MaxPool", "QLinearAdd": "Add",
    "QLinearConcat": "Concat", "QLinearAveragePool": "AveragePool", "Flatten": "View", "Reshape": "View",
}  # fmt: skip
#: Kernels whose time depends on the elements alone; a parade learns them by the way.
_SIMPLE = frozenset({
    "GlobalAveragePool", "MaxPool", "AveragePool", "Add", "View", "ReorderInput", "ReorderOutput",
    "Transpose", "QuantizeLinear", "DequantizeLinear", "ReduceMean",
})  # fmt: skip


@dataclass(frozen=True)
class Timed:
    """A node that ran, the kernel it was built for (None for a by-product), and what else it is."""

    node: Node
    kernel: Kernel | None
    type: str
    dtype: str
    blocked: bool


def run_parade(kernels: Sequence[Kernel]) -> list[Timed]:
    """Run one graph with all ``kernels`` (of one dtype) and return its nodes as the profiler sees them."""
    sheet = Sheet(kernels[0].dtype == "int8")
    for index, kernel in enumerate(kernels):
        sheet.add(index, kernel)
    timed = [_recognize(node, kernels) for node in profile(sheet.model(), sheet.feeds)]
    return [entry for entry in timed if entry.kernel is not None or entry.type in _SIMPLE]


def _recognize(node: Node, kernels: Sequence[Kernel]) -> Timed:
    match = re.search(r"\bk(\d+)[_ ]", node.name + " ")
    kernel = kernels[int(match[1])] if match and node.op != "Transpose" else None
    kind = _TYPES.get(node.op, node.op)
    if kernel is not None and kind in _SIMPLE and kind != kernel.type:
        kernel = None
    dtype = "int8" if node.int8 or "Quantize" in kind else "fp32"
    return Timed(node, kernel, kind, dtype, node.name.endswith("_nchwc"))
