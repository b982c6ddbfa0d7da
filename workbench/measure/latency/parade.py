"""Graphs that hold many kernels side by side, and the time that each of them takes.

ONNX Runtime's profiler gives each node's duration, but adds about 2 µs to it, as much as a small kernel
takes. That share is found once, on a graph that also runs without the profiler, and is taken off each
node (more off nodes with more inputs, whose shapes the profiler writes down).
"""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .kernels import Kernel
from .measured import _time, open_session

Shape = tuple[int, ...]

#: Turns of a graph without and with the profiler, and runs in each.
_TURNS, _RUNS = 3, 9
#: Times that calibration is tried; the lower fifth counts, since noise only adds.
_TRIES = 10
#: Least time of a node, in nanoseconds: what calling it costs.
_LEAST = 200.0
#: How much more the profiler adds for each input of a node.
_PER_INPUT = 0.09
#: Operators of ONNX Runtime by the name that kernels.py gives them.
_TYPES = {
    "QLinearGlobalAveragePool": "GlobalAveragePool", "NhwcMaxPool": "MaxPool", "QLinearAdd": "Add",
    "QLinearAveragePool": "AveragePool", "Flatten": "View", "Reshape": "View",
}  # fmt: skip
_SINGLE = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "Add", "ReduceMean"})
_SIMPLE = frozenset({"GlobalAveragePool", "MaxPool", "AveragePool", "Add", "View", "ReorderInput",
                     "ReorderOutput", "Transpose", "QuantizeLinear", "DequantizeLinear", "ReduceMean"})  # fmt: skip


@dataclass(frozen=True)
class Timed:
    """A node that ran: the kernel it was built for (None for a by-product) and its nanoseconds."""

    kernel: Kernel | None
    type: str
    dtype: str
    blocked: bool
    elements: tuple[int, int]
    ns: float


def can_build(kernel: Kernel) -> bool:
    """Whether a parade can hold this kernel."""
    if kernel.type == "Conv":
        return kernel.groups == 1 and len(kernel.image) == 2
    return kernel.type in _SINGLE | {"DepthwiseConv", "Gemm"}


def run_parade(kernels: Sequence[Kernel], profiler_ns: float) -> list[Timed]:
    """Run one graph with all ``kernels`` (of one dtype) and return what each node took.

    ``profiler_ns``: what the profiler adds to a node, from :func:`calibrate`.
    """
    sheet = _Sheet(kernels[0].dtype == "int8")
    for index, kernel in enumerate(kernels):
        sheet.add(index, kernel)
    _, nodes = _time_nodes(sheet.model(), sheet.feeds, 0)
    timed = [node.timed(kernels, profiler_ns * (1 + _PER_INPUT * node.inputs)) for node in nodes]
    return [entry for entry in timed if entry.kernel is not None or entry.type in _SIMPLE]


def calibrate() -> tuple[float, float]:
    """Return the nanoseconds of a run beside its nodes, and those the profiler adds to a node.

    The second from a graph of many small kernels, in which the difference is most of the time; the
    first from a small network.
    """
    first = _median_run(_chain(1), {"x": np.zeros((1, 4), np.float32)})
    convolution = Kernel("", "Conv", "fp32", "direct", 1, 16, (4, 4), (4, 4), window=(1, 1), stride=(1, 1))
    sheet = _Sheet(False)
    for index in range(16):
        sheet.add(index, convolution)
    many = sheet.model()
    excess = []
    for _ in range(_TRIES):
        total, nodes = _time_nodes(many, sheet.feeds, _RUNS)
        weight = sum(1 + _PER_INPUT * node.inputs for node in nodes)
        excess.append((sum(node.ns for node in nodes) - (total - first)) / weight)
    profiler = float(np.percentile(excess, 20))
    return _run_beside_nodes(profiler), profiler


def _run_beside_nodes(profiler: float) -> float:
    network, feeds = _chain(8), {"x": np.zeros((1, 4), np.float32)}
    found = []
    for _ in range(_TRIES):
        total, nodes = _time_nodes(network, feeds, _RUNS)
        found.append(total - sum(node.ns - profiler * (1 + _PER_INPUT * node.inputs) for node in nodes))
    return float(np.percentile(found, 20))


@dataclass(frozen=True)
class _Node:
    name: str
    op: str
    inputs: int
    elements: tuple[int, int]
    int8: bool
    ns: float

    def timed(self, kernels: Sequence[Kernel], excess: float) -> Timed:
        match = re.search(r"\bk(\d+)[_ ]", self.name + " ")
        kernel = kernels[int(match[1])] if match and self.op not in ("Transpose",) else None
        kind = _TYPES.get(self.op, self.op)
        if kernel is not None and kind in _SIMPLE and kind != kernel.type:
            kernel = None
        blocked = self.name.endswith("_nchwc")
        dtype = "int8" if self.int8 or "Quantize" in kind else "fp32"
        return Timed(kernel, kind, dtype, blocked, self.elements, max(_LEAST, self.ns - excess))


class _Sheet:
    """A graph under construction. Names starting with ``k<index>`` belong to the kernel measured."""

    def __init__(self, int8: bool) -> None:
        self.int8 = int8
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.feeds: dict[str, np.ndarray] = {}
        self.ends: list[str] = []
        self.sources: dict[Any, str] = {}
        self.random = np.random.default_rng(0)
        self.constant("least", np.float32(0))
        self.constant("most", np.float32(6))
        if int8:
            self.constant("scale", np.float32(0.05))
            self.constant("zero", np.uint8(128))

    def add(self, index: int, kernel: Kernel) -> None:
        name = f"k{index}"
        if kernel.type == "Gemm":
            one = self.feed((kernel.batch, 1))
            self.weighted("Gemm", f"rows{index}", one, (1, kernel.inputs), {})
            rows = self.settle(f"rows{index}")
            self.weighted("Gemm", name, rows, (kernel.inputs, kernel.outputs), {})
            self.ends.append(self.real(self.settle(name)))
            return
        source = self.source(index, kernel.batch, kernel.inputs, kernel.image)
        if kernel.type in ("Conv", "DepthwiseConv"):
            name = self.convolve(name, kernel, source)
        elif kernel.type == "Add":
            other = self.source(-1, kernel.batch, kernel.inputs, kernel.image)
            self.node("Add", [self.real(source), self.real(other)], name, {})
        else:
            self.node(kernel.type, [self.real(source)], name, _settings(kernel))
        self.end(self.settle(name), kernel)

    def convolve(self, name: str, kernel: Kernel, source: str) -> str:
        """Add a convolution with all it takes in; return the name of its result."""
        depthwise = kernel.type == "DepthwiseConv"
        shape = (kernel.outputs, 1 if depthwise else kernel.inputs, *kernel.window)
        attributes = {**_windows(kernel), "group": kernel.outputs if depthwise else 1}
        self.weighted("Conv", name, source, shape, attributes)
        for op in kernel.fused:
            inputs = [name]
            if op == "Add":
                inputs.append(self.source(-1, kernel.batch, kernel.outputs, kernel.output_image))
            elif op == "Clip":
                inputs += ["least", "most"]
            self.node(op, inputs, f"{name}_{op}", {})
            name = f"{name}_{op}"
        return name

    def end(self, tensor: str, kernel: Kernel) -> None:
        """Shrink the result, so that its buffer is free again, and hand it out."""
        if kernel.type != "GlobalAveragePool":
            self.node("GlobalAveragePool", [self.real(tensor)], f"{tensor}_end", {})
            tensor = self.settle(f"{tensor}_end")
        self.ends.append(self.real(tensor))

    def source(self, index: int, batch: int, channels: int, image: Shape) -> str:
        """Return a tensor of this shape that a convolution made just before, as in a network."""
        shape = (index, batch, channels, *image)
        if shape not in self.sources:
            name = f"source{len(self.sources)}"
            entry = self.feed((batch, 1, *image))
            self.weighted("Conv", name, entry, (channels, 1, 1, 1), {"kernel_shape": [1, 1]})
            self.sources[shape] = self.settle(name)
        return self.sources[shape]

    def feed(self, shape: Shape) -> str:
        name = "x" + "_".join(map(str, shape))
        if name not in self.feeds:
            self.feeds[name] = self.random.standard_normal(shape, dtype=np.float32)
        return self.settle(name)

    def weighted(self, op: str, name: str, source: str, shape: Shape, attributes: dict[str, Any]) -> None:
        """Add a product with its weight and bias."""
        axis = 0 if op == "Conv" else 1
        if self.int8:
            codes = self.random.integers(-127, 128, shape, dtype=np.int8)
            self.quantized(f"{name}.weight", codes, 0.01, axis)
            # The bias has the scale of the products: 0.05 of the activations × 0.01 of the weights.
            self.quantized(f"{name}.bias", np.zeros(shape[axis], np.int32), 0.0005, 0)
        else:
            self.constant(f"{name}.weight", self.random.standard_normal(shape, dtype=np.float32) * 0.1)
            self.constant(f"{name}.bias", np.zeros(shape[axis], np.float32))
        self.node(op, [self.real(source), f"{name}.weight", f"{name}.bias"], name, attributes)

    def quantized(self, name: str, codes: np.ndarray, scale: float, axis: int) -> None:
        """Add a constant kept as integers with a scale for each output channel."""
        channels = codes.shape[axis]
        self.constant(f"{name}_codes", codes)
        self.constant(f"{name}_scale", np.full(channels, scale, np.float32))
        self.constant(f"{name}_zero", np.zeros(channels, codes.dtype))
        self.node(
            "DequantizeLinear", [f"{name}_codes", f"{name}_scale", f"{name}_zero"], name, {"axis": axis}
        )

    def settle(self, tensor: str) -> str:
        """Return the tensor as it lies between kernels: quantized in an int8 graph."""
        if not self.int8:
            return tensor
        name = f"{tensor}_q"
        if all(node.output[0] != name for node in self.nodes):
            self.node("QuantizeLinear", [tensor, "scale", "zero"], name, {})
        return name

    def real(self, tensor: str) -> str:
        """Return a fresh dequantized reading of ``tensor``: ONNX Runtime wants one for each reader."""
        if not self.int8:
            return tensor
        name = f"{tensor}_r{len(self.nodes)}"
        self.node("DequantizeLinear", [tensor, "scale", "zero"], name, {})
        return name

    def node(self, op: str, inputs: list[str], output: str, attributes: dict[str, Any]) -> None:
        from onnx import helper

        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))

    def constant(self, name: str, values: Any) -> None:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.asarray(values), name))

    def model(self) -> Any:
        """Return the graph; all results leave it as one, since each output of a run costs time."""
        self.node("Concat", self.ends, "all", {"axis": 1})
        inputs = {name: values.shape for name, values in self.feeds.items()}
        return _model(self.nodes, inputs, ["all"], self.constants)


def _model(nodes: Iterable[Any], inputs: dict[str, Shape], outputs: Iterable[str], weights: Any) -> Any:
    from onnx import TensorProto, helper

    entries = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()
    ]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(list(nodes), "parade", entries, results, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _chain(length: int) -> Any:
    from onnx import helper

    names = ["x", *(f"y{index}" for index in range(length))]
    nodes = [helper.make_node("Relu" if index % 2 else "Neg", [names[index]], [names[index + 1]])
             for index in range(length)]  # fmt: skip
    return _model(nodes, {"x": (1, 4)}, names[-1:], [])


def _settings(kernel: Kernel) -> dict[str, Any]:
    if kernel.type == "ReduceMean":
        return {"axes": [2, 3]}
    return {} if kernel.type == "GlobalAveragePool" else _windows(kernel)


def _windows(kernel: Kernel) -> dict[str, Any]:
    """Return attributes that turn the kernel's image into its output image."""
    strides = kernel.stride or (1,) * len(kernel.image)
    pads = []
    for size, result, window, stride in zip(
        kernel.image, kernel.output_image, kernel.window, strides, strict=True
    ):
        pads.append(max(0, (result - 1) * stride + window - size))
    half = [pad // 2 for pad in pads]
    rest = [pad - start for pad, start in zip(pads, half, strict=True)]
    return {"kernel_shape": list(kernel.window), "strides": list(strides), "pads": half + rest}


def _median_run(model: Any, feeds: dict[str, np.ndarray]) -> float:
    session = open_session(model)
    for _ in range(5):
        session.run(None, feeds)
    return float(np.median([_time(lambda: session.run(None, feeds)) for _ in range(50)]))


def _time_nodes(model: Any, feeds: dict[str, np.ndarray], bare: int) -> tuple[float, list[_Node]]:
    """Return the nanoseconds of a run without the profiler (0 if ``bare`` runs are 0), and its nodes."""
    plain = open_session(model) if bare else None
    with tempfile.TemporaryDirectory() as folder:
        profiled = open_session(model, profile_to=str(Path(folder) / "run"))
        times: list[int] = []
        for _ in range(_TURNS):  # in turns, so that a passing disturbance touches both
            if bare:
                plain.run(None, feeds)
            times.extend(_time(lambda: plain.run(None, feeds)) for _ in range(bare))
            for _ in range(_RUNS):
                profiled.run(None, feeds)
        events = json.loads(Path(profiled.end_profiling()).read_text())
    return float(np.percentile(times or [0], 25)), _nodes(events)


def _nodes(events: Iterable[dict[str, Any]]) -> list[_Node]:
    suffix = "_kernel_time"
    grouped: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(suffix):
            grouped[event["name"].removesuffix(suffix)].append(event)
    return [_node(name, group) for name, group in grouped.items()]


def _node(name: str, group: list[dict[str, Any]]) -> _Node:
    details = group[0]["args"]
    durations = np.sort([event["dur"] for event in group[1:]])
    # Noise only adds, so the longest are left out; of the rest the mean, since durations come in whole
    # microseconds and their spread over neighbouring ones tells the fraction.
    middle = durations[durations <= np.percentile(durations, 25) * 1.1 + 1]
    sizes = [math.prod(next(iter(entry.values()))) for entry in details["input_type_shape"][:1]]
    written = [math.prod(next(iter(entry.values()))) for entry in details["output_type_shape"][:1]]
    kinds = {next(iter(entry)) for entry in details["input_type_shape"][:1]}
    read = sizes[0] if sizes else 0
    if details["op_name"] == "ReorderOutput":
        read = written[0]
    elif details["op_name"] == "ReorderInput":
        written = [read]
    int8 = bool(kinds & {"uint8", "int8"})
    count = len(details["input_type_shape"])
    return _Node(name, details["op_name"], count, (read, written[0]), int8, float(middle.mean()) * 1e3)
