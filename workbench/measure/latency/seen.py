"""Kernels read off a run, for graphs that the rules of ``kernels.py`` do not follow.

Attention, recurrent layers and whatever else a model computes are rewritten by ONNX Runtime in ways of their
own. So the graph is run, and the profiler tells which nodes ran on which shapes. Products with a weight are
measured as those of other graphs are; the other nodes by running the dense graph on batches of several sizes,
which gives each kind of node its time as a function of the elements it reads and writes.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from workbench.counting import counted

from .graph import Shape
from .kernel import Dtype, Kernel
from .measured import open_session, time_once
from .profiler import PER_INPUT, Calibration, Node, profile
from .signature import place

if TYPE_CHECKING:
    import onnx

#: ONNX Runtime's products with a weight, by the name that kernels go by.
_PRODUCTS = {"MatMul": "MatMul", "QLinearMatMul": "MatMul", "Gemm": "Gemm", "QGemm": "Gemm", "FusedGemm": "Gemm"}
_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
#: Operators that only move a weight on its way to the node that multiplies by it.
_MOVE = frozenset({"Transpose", "Identity", "Slice", "Split", "Concat", "Unsqueeze", "Squeeze", "Reshape",
                   "QuantizeLinear", "DequantizeLinear"})  # fmt: skip
#: Batches on which a graph is run to learn its nodes' times, and how often.
_BATCHES, _VISITS = (1, 2, 4), 5

#: Name of a node → the initializer that it multiplies by, and its shape.
Weights = Mapping[str, tuple[str, Shape]]
Points = dict[str, dict[tuple[int, int], tuple[float, int]]]


def seen_kernels(model: onnx.ModelProto, image_shape: Shape) -> tuple[Kernel, ...]:
    """Return the kernels that ONNX Runtime runs for one image ``(C, H, W)``, found by running it."""
    weights = _weights(model)
    nodes = profile(model.SerializeToString(), _feeds(model, image_shape, 1), runs=2)
    return tuple(_kernel(node, weights) for node in nodes)


def observe(model: onnx.ModelProto, image_shape: Shape, calibration: Calibration) -> Points:
    """Return what running ``model`` tells of its nodes: signature → coordinates → time and inputs, as a table has them.

    What the profiler adds is found on this very graph, by running it without: small nodes are many here.
    """
    found: Points = defaultdict(dict)
    content, weights = model.SerializeToString(), _weights(model)
    session = open_session(content)
    for batch in _BATCHES:
        feeds = _feeds(model, image_shape, batch)
        visits = []
        for _ in range(_VISITS):
            times = [time_once(partial(session.run, None, feeds)) for _ in range(30)]
            visits.append((float(np.median(times[5:])), profile(content, feeds)))
        whole, nodes = min(visits, key=lambda visit: visit[0])  # the quietest
        added = (sum(node.ns for node in nodes) + calibration.run_ns - whole) / sum(map(_weight, nodes))
        for (signature, point), raw in _averaged(nodes, weights, added - calibration.profiler_ns).items():
            found[signature][point] = raw
    return dict(found)


def is_seen(kernel: Kernel) -> bool:
    """Whether the kernel's time is learned from the graph it is in."""
    return kernel.layout == "seen"


def _averaged(nodes: list[Node], weights: Weights, more: float) -> dict[tuple[str, tuple[int, int]], tuple[float, int]]:
    """Return the mean over nodes of one place, less what the profiler adds beyond its usual share."""
    gathered: dict[tuple[str, tuple[int, int]], list[tuple[float, int]]] = defaultdict(list)
    for node in nodes:
        kernel = _kernel(node, weights)
        if is_seen(kernel):
            gathered[place(kernel, 0)].append((node.ns - more * _weight(node), node.inputs))
    return {where: (float(np.mean([ns for ns, _ in both])), both[0][1]) for where, both in gathered.items()}


def _weight(node: Node) -> float:
    return 1 + PER_INPUT * node.inputs


def _feeds(model: onnx.ModelProto, image_shape: Shape, batch: int) -> dict[str, np.ndarray]:
    constants = {tensor.name for tensor in model.graph.initializer}
    (name,) = (entry.name for entry in model.graph.input if entry.name not in constants)
    images = np.random.default_rng(0).standard_normal((batch, *image_shape), dtype=np.float32)
    return {name: images}


def _kernel(node: Node, weights: Weights) -> Kernel:
    dtype: Dtype = "int8" if node.int8 else "fp32"
    read, written = node.read[0] if node.read else (), node.written[0] if node.written else ()
    name = node.name
    made = max((made for made in weights if name == made or name.startswith(f"{made}_")), key=len, default="")
    weight, shape = weights.get(made, ("", ()))
    elements = sum(map(math.prod, node.read)), sum(map(math.prod, node.written))
    size = sum(elements) * (1 if node.int8 else 4)
    if node.op in _PRODUCTS and _has_weight(node) and len(read) > 1:
        rows, macs = math.prod(written[:-1]), math.prod(written) * read[-1]
        kind = _PRODUCTS[node.op]
        return Kernel(name, kind, dtype, "", read[-1], written[-1], (), (), batch=rows, macs=macs, bytes=size,
                      weight=weight)  # fmt: skip
    if node.op in _RECURRENT and len(written) == 4:
        gates = {"LSTM": 4, "GRU": 3}.get(node.op, 1)
        steps, ways, batch, hidden = written
        macs = steps * batch * ways * gates * hidden * (read[-1] + hidden)
        kind = f"{node.op} of {counted(steps, 'step')}"
        return Kernel(name, kind, dtype, "seen", read[-1], hidden, (), (), batch=batch * ways, macs=macs, bytes=size,
                      weight=weight)  # fmt: skip
    ranks = ",".join(f"{len(shape)}d" for shape in node.read)
    moved = " last moves" if read and written and len(read) == len(written) and read[-1] != written[-1] else ""
    return Kernel(name, f"{node.op} {ranks}{moved}", dtype, "seen", *elements, (), (), macs=_macs(node, shape),
                  bytes=size, weight=weight)  # fmt: skip


def _macs(node: Node, weight: Shape) -> int:
    """Return the multiply-accumulates of a product of activations, or of a convolution by ``weight``."""
    if not node.written:
        return 0
    if node.op in ("MatMul", "FusedMatMul", "QLinearMatMul"):
        return math.prod(node.written[0]) * node.read[0][-1]
    return math.prod(node.written[0]) * math.prod(weight[1:]) if weight and node.op.endswith("Conv") else 0


def _has_weight(node: Node) -> bool:
    """Whether a product's second factor is a constant, whose shape the profiler leaves out or which is a matrix."""
    factors = [shape for shape in node.read if len(shape) > 1]
    return len(factors) < 2 or len(factors[1]) == 2 < len(factors[0])


def _weights(model: onnx.ModelProto) -> Weights:
    """Return what the nodes that multiply take from the model."""
    made = {output: node for node in model.graph.node for output in node.output}
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer if len(tensor.dims) > 1}

    def source(name: str) -> str | None:
        while name not in shapes:
            node = made.get(name)
            if node is None or node.op_type not in _MOVE:
                return None
            name = node.input[0]
        return name

    found = {}
    for node in model.graph.node:
        if node.op_type in {*_PRODUCTS, *_RECURRENT, "Conv"} and len(node.input) > 1:
            weight = source(node.input[1])
            if weight is not None:
                found[node.name] = weight.removesuffix("_quantized"), shapes[weight]
    return found
