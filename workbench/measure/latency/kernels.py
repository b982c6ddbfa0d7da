"""Which kernels ONNX Runtime's CPU provider will run for a graph, after its fusions.

ONNX Runtime rewrites a graph before it runs it, and the rewriting decides the time as much as the
operation count does. ``fp32.py`` and ``int8.py`` follow the rewriting without making a session; the
tests hold the result against the graphs that ONNX Runtime itself writes.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from .fp32 import Fp32Plan
from .graph import Graph, Node, Shape, infer_shapes, read_graph
from .int8 import Int8Plan
from .kernel import ALIGNMENT, Kernel
from .plan import Plan

if TYPE_CHECKING:
    import onnx

__all__ = ["ALIGNMENT", "Kernel", "fused_kernels"]


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
    would run after :func:`workbench.run.qdq.export_int8`. ``block``: channels in a block of the
    NCHWc layout (16 with AVX-512, 8 with AVX2; 0 where ONNX Runtime has no blocked layout).
    """
    graph = model if isinstance(model, Graph) else read_graph(model)
    shapes = infer_shapes(graph, image_shape, batch)
    plan: Plan = Int8Plan(graph, shapes) if int8 or graph.int8 else Fp32Plan(graph, shapes, block)
    for node in _without_batchnorm(graph):
        plan.add(node)
    plan.finish()
    return tuple(draft.kernel(shapes) for draft in plan.drafts)


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
