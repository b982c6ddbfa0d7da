"""Kernels read off a run, for graphs that the rules of ``kernels.py`` do not follow.

Attention, recurrent layers and whatever else a model computes are rewritten by ONNX Runtime in ways of their
own. So the graph is run, and the profiler tells which nodes ran on which shapes. Convolutions and products with a
weight are measured as those of other graphs are; the other nodes by running the dense graph on batches of several
sizes, which gives each kind of node its time as a function of the elements it reads and writes.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from workbench.counting import counted

from .graph import Shape
from .kernel import Dtype, Kernel, Layout
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

#: What ONNX Runtime appends to the name of a convolution that runs in its blocked layout.
_BLOCKED = "_nchwc"
#: Inputs of a blocked convolution that adds to what it makes.
_ADDED = 4
#: What ONNX Runtime puts before the name of a weight that took in a BatchNorm.
_FOLDED = "ConvBnFusion_W_"


@dataclass(frozen=True)
class Weighted:
    """A node that multiplies by a weight: the initializer, its shape, and how a convolution goes over the image.

    ``fused`` are the operators behind it, up to the one that ONNX Runtime named the fused node after.
    """

    weight: str
    shape: Shape
    stride: Shape = ()
    groups: int = 1
    fused: tuple[str, ...] = ()


#: Operators that go into the convolution before them.
_FUSED = frozenset({"BatchNormalization", "Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "Add"})

#: Name of a node, or of a value that it or one fused into it makes → what it multiplies by.
Weights = Mapping[str, Weighted]
Points = dict[str, dict[tuple[int, int], tuple[float, int]]]


def seen_kernels(model: onnx.ModelProto, image_shape: Shape, *, block: int = 16) -> tuple[Kernel, ...]:
    """Return the kernels that ONNX Runtime runs for one image ``(C, H, W)``, found by running it.

    ``block``: channels in a block of its layout here, as in :func:`fused_kernels`.
    """
    weights = _weights(model)
    nodes = profile(model.SerializeToString(), _feeds(model, image_shape, 1), runs=2)
    return tuple(_kernel(node, weights, block) for node in nodes)


def observe(model: onnx.ModelProto, image_shape: Shape, calibration: Calibration, block: int) -> Points:
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
        for (signature, point), raw in _averaged(nodes, weights, block, added - calibration.profiler_ns).items():
            found[signature][point] = raw
    return dict(found)


def is_seen(kernel: Kernel) -> bool:
    """Whether the kernel's time is learned from the graph it is in."""
    return kernel.layout == "seen"


def _averaged(
    nodes: list[Node], weights: Weights, block: int, more: float
) -> dict[tuple[str, tuple[int, int]], tuple[float, int]]:
    """Return the mean over nodes of one place, less what the profiler adds beyond its usual share."""
    gathered: dict[tuple[str, tuple[int, int]], list[tuple[float, int]]] = defaultdict(list)
    for node in nodes:
        kernel = _kernel(node, weights, block)
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


def _kernel(node: Node, weights: Weights, block: int) -> Kernel:
    dtype: Dtype = "int8" if node.int8 else "fp32"
    read, written = node.read[0] if node.read else (), node.written[0] if node.written else ()
    name = node.name
    made = max((made for made in weights if name == made or name.startswith(f"{made}_")), key=len, default="")
    weighted = weights.get(made, Weighted("", ()))
    weight = weighted.weight
    elements = sum(map(math.prod, node.read)), sum(map(math.prod, node.written))
    size = sum(elements) * (1 if node.int8 else 4)
    if node.op.endswith("Conv") and len(read) == len(weighted.shape) > 2:
        return _convolution(node, weighted, block)
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
    products = node.op in ("MatMul", "FusedMatMul", "QLinearMatMul") and node.written
    macs = math.prod(written) * read[-1] if products else 0
    return Kernel(name, f"{node.op} {ranks}{moved}", dtype, "seen", *elements, (), (), macs=macs, bytes=size,
                  weight=weight)  # fmt: skip


def _convolution(node: Node, weighted: Weighted, block: int) -> Kernel:
    """Return a convolution as the rules of ``fp32.py`` and ``int8.py`` would have planned it."""
    read, written, shape = node.read[0], node.written[0], weighted.shape
    outputs, inputs = shape[0], shape[1] * weighted.groups
    last = node.int8 and read[-1] == inputs and written[-1] == outputs
    space = slice(1, -1) if last else slice(2, None)
    depthwise = weighted.groups == inputs == outputs > 1
    layout: Layout = "last" if last else "plain"
    fused = weighted.fused
    if node.name.endswith(_BLOCKED):
        layout = "direct" if inputs < block and not depthwise else "blocked"
        if node.inputs == _ADDED and "Add" not in fused:  # it is not named after that
            fused += ("Add",)
    image, output_image, batch = read[space], written[space], read[0]
    target = batch * outputs * math.prod(output_image)
    moved = batch * inputs * math.prod(image) + target * (2 if "Add" in fused else 1) + math.prod(shape)
    return Kernel(
        node.name, "DepthwiseConv" if depthwise else "Conv", "int8" if node.int8 else "fp32", layout, inputs, outputs,
        image, output_image, shape[2:], weighted.stride, 1 if depthwise else weighted.groups, batch, fused,
        macs=target * math.prod(shape[1:]), bytes=moved * (1 if node.int8 else 4), weight=weighted.weight,
    )  # fmt: skip


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

    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in model.graph.node:
        for name in node.input:
            readers[name].append(node)
    found: dict[str, Weighted] = {}
    for node in model.graph.node:
        if node.op_type in {*_PRODUCTS, *_RECURRENT, "Conv"} and len(node.input) > 1:
            weight = source(node.input[1])
            if weight is not None:
                weighted = found[node.name] = _weighted(node, weight, shapes[weight])
                if node.op_type == "Conv":
                    _name_fused(node, weighted, readers, found)
    return found


def _weighted(node: onnx.NodeProto, weight: str, shape: Shape) -> Weighted:
    settings = {attribute.name: attribute for attribute in node.attribute}
    stride = tuple(settings["strides"].ints) if "strides" in settings else ()
    groups = settings["group"].i if "group" in settings else 1
    return Weighted(weight.removesuffix("_quantized").removeprefix(_FOLDED), shape, stride, groups)


def _name_fused(
    node: onnx.NodeProto, weighted: Weighted, readers: Mapping[str, list[onnx.NodeProto]], found: dict[str, Weighted]
) -> None:
    """Note the values behind a convolution after which it is named once it took in what makes them."""
    while True:
        if weighted.fused[-1:] == ("Add",):
            found.setdefault(node.output[0], weighted)  # of two convolutions that are added the first takes it in
        else:
            found[node.output[0]] = weighted
        following = readers[node.output[0]]
        if len(following) != 1 or following[0].op_type not in _FUSED:
            return
        node = following[0]
        weighted = replace(weighted, fused=(*weighted.fused, node.op_type))
