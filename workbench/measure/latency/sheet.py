"""Graphs for measuring: many kernels side by side, each behind a producer of its own, as in a network."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from .graph import Shape
from .kernel import Kernel
from .signature import CONVOLUTIONS, PRODUCTS

_POOLS = frozenset({"MaxPool", "AveragePool"})
_SINGLE = frozenset({"GlobalAveragePool", "Add", "ReduceMean", "Relu", "Sigmoid", "Tanh", "HardSigmoid"})


def can_build(kernel: Kernel) -> bool:
    """Whether a parade can hold this kernel."""
    if kernel.layout == "seen":
        return False
    if kernel.type in PRODUCTS and kernel.type != "Conv":
        return True
    sizes = len(kernel.image)
    if kernel.type == "Concat":
        return kernel.outputs > kernel.inputs > 0 and sizes > 0 and kernel.image == kernel.output_image
    if kernel.type in CONVOLUTIONS or kernel.type in _POOLS:
        whole = kernel.inputs % kernel.groups == 0 == kernel.outputs % kernel.groups
        return whole and sizes == len(kernel.output_image) == len(kernel.window) > 0
    return kernel.type in _SINGLE and sizes > 0


class Sheet:
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
            end = self.settle(name)
            if kernel.batch > 1:  # what leaves the graph is one row
                self.node("Flatten", [self.real(end)], f"flat{index}", {"axis": 0})
                end = self.settle(f"flat{index}")
            self.ends.append(self.real(end))
            return
        if kernel.type == "MatMul":
            self.multiply(index, name, kernel)
            return
        source = self.source(index, kernel.batch, kernel.inputs, kernel.image)
        if kernel.type in ("Conv", "DepthwiseConv"):
            name = self.convolve(name, kernel, source)
        elif kernel.type == "Add":
            other = self.source(-1, kernel.batch, kernel.inputs, kernel.image)
            self.node("Add", [self.real(source), self.real(other)], name, {})
        elif kernel.type == "Concat":
            rest = self.source(-1, kernel.batch, kernel.outputs - kernel.inputs, kernel.image)
            self.node("Concat", [self.real(source), self.real(rest)], name, {"axis": 1})
        else:
            self.node(kernel.type, [self.real(source)], name, _settings(kernel))
        self.end(self.settle(name), kernel)

    def multiply(self, index: int, name: str, kernel: Kernel) -> None:
        """Add a product of as many rows as the kernel's batch, which another has just made."""
        one = self.feed((1, kernel.batch, 1))
        self.weighted("MatMul", f"rows{index}", one, (1, kernel.inputs), {})
        self.weighted("MatMul", name, self.settle(f"rows{index}"), (kernel.inputs, kernel.outputs), {})
        flat = f"flat{index}"
        self.node("Flatten", [self.real(self.settle(name))], flat, {"axis": 1})
        self.ends.append(self.real(self.settle(flat)))

    def convolve(self, name: str, kernel: Kernel, source: str) -> str:
        """Add a convolution with all it takes in; return the name of its result."""
        groups = kernel.outputs if kernel.type == "DepthwiseConv" else kernel.groups
        shape = (kernel.outputs, kernel.inputs // groups, *kernel.window)
        attributes = {**_windows(kernel), "group": groups}
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
            ones = (1,) * len(image)
            self.weighted("Conv", name, entry, (channels, 1, *ones), {"kernel_shape": ones})
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
            if op != "MatMul":
                self.quantized(f"{name}.bias", np.zeros(shape[axis], np.int32), 0.0005, 0)
        else:
            self.constant(f"{name}.weight", self.random.standard_normal(shape, dtype=np.float32) * 0.1)
            self.constant(f"{name}.bias", np.zeros(shape[axis], np.float32))
        bias = [] if op == "MatMul" else [f"{name}.bias"]
        self.node(op, [self.real(source), f"{name}.weight", *bias], name, attributes)

    def quantized(self, name: str, codes: np.ndarray, scale: float, axis: int) -> None:
        """Add a constant kept as integers with a scale for each output channel."""
        channels = codes.shape[axis]
        self.constant(f"{name}_codes", codes)
        self.constant(f"{name}_scale", np.full(channels, scale, np.float32))
        self.constant(f"{name}_zero", np.zeros(channels, codes.dtype))
        self.node("DequantizeLinear", [f"{name}_codes", f"{name}_scale", f"{name}_zero"], name, {"axis": axis})

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
        return make_model(self.nodes, inputs, ["all"], self.constants)


def make_model(nodes: Iterable[Any], inputs: dict[str, Shape], outputs: Iterable[str], weights: Any) -> Any:
    """Return a model of float inputs and outputs."""
    from onnx import TensorProto, helper

    entries = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(list(nodes), "parade", entries, results, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def chain(length: int) -> Any:
    """Return a model of ``length`` nodes that do next to nothing, one after another."""
    from onnx import helper

    names = ["x", *(f"y{index}" for index in range(length))]
    nodes = [helper.make_node("Relu" if index % 2 else "Neg", [names[index]], [names[index + 1]])
             for index in range(length)]  # fmt: skip
    return make_model(nodes, {"x": (1, 4)}, names[-1:], [])


def _settings(kernel: Kernel) -> dict[str, Any]:
    if kernel.type == "ReduceMean":
        return {"axes": list(range(2, 2 + len(kernel.image)))}
    return _windows(kernel) if kernel.type in _POOLS else {}


def _windows(kernel: Kernel) -> dict[str, Any]:
    """Return attributes that turn the kernel's image into its output image."""
    strides = kernel.stride or (1,) * len(kernel.image)
    pads = []
    for size, result, window, stride in zip(kernel.image, kernel.output_image, kernel.window, strides, strict=True):
        pads.append(max(0, (result - 1) * stride + window - size))
    half = [pad // 2 for pad in pads]
    rest = [pad - start for pad, start in zip(pads, half, strict=True)]
    return {"kernel_shape": list(kernel.window), "strides": list(strides), "pads": half + rest}
