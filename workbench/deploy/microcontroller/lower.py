"""From an int8 ONNX file (QDQ: each operator between ``DequantizeLinear`` and ``QuantizeLinear``) to a Program.

The file is the one ONNX Runtime runs, so that its grids, and with them its answers, are the same: only
the arithmetic between the grids changes from its kernels to plain integers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workbench.deploy.limits import place_of, some
from workbench.errors import WorkbenchError

from .program import Op, Program, Value, multiplier_of

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto


class LoweringError(WorkbenchError):
    """The model holds something that the C kernels cannot do."""


def lower(model: ModelProto) -> Program:
    """Return the Program of an int8 QDQ graph with one input and one output.

    Raises:
        LoweringError: an operator has no C kernel or is not quantized; names it, its layer, and a way round.
    """
    return _Lowering(model).program()


#: What each handler needs to know of its node: the node, its inputs' and its output's Values.
Handler = Callable[["_Lowering", "NodeProto", list[Value], Value], None]


class _Lowering:
    def __init__(self, model: ModelProto) -> None:
        from onnx import numpy_helper, shape_inference

        self.graph = model.graph
        self.constants: dict[str, NDArray[Any]] = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer
        }
        self.makers = {name: node for node in model.graph.node for name in node.output}
        inferred = shape_inference.infer_shapes(model).graph
        self.shapes = {
            entry.name: tuple(dim.dim_value for dim in entry.type.tensor_type.shape.dim[1:])
            for entry in (*inferred.input, *inferred.value_info, *inferred.output)
        }
        self.users: dict[str, list[NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self.users.setdefault(name, []).append(node)
        self.values: dict[str, Value] = {}
        self.ops: list[Op] = []

    def program(self) -> Program:
        names = [entry.name for entry in self.graph.input if entry.name not in self.constants]
        if len(names) != 1 or len(self.graph.output) != 1:
            raise LoweringError(
                f"The C export handles models with one input and one output; this one has {len(names)} and "
                f"{len(self.graph.output)}."
            )
        image = names[0]
        for node in self.graph.node:
            if node.op_type in {"QuantizeLinear", "DequantizeLinear"}:
                continue
            if node.op_type in {"Flatten", "Reshape"} and node.input[0] == image:  # its bytes stay as they are
                image = node.output[0]
                continue
            handler = HANDLERS.get(node.op_type)
            if handler is None:
                raise self.refusal(node, f"The C kernels have no {self._lacking()}")
            handler(self, node, [self.quantized(name, node) for name in self._activations(node)], self.produced(node))
        source = next(node for node in self.users[image] if node.op_type == "QuantizeLinear")
        last = self.makers[self.graph.output[0].name]
        if last.op_type != "DequantizeLinear":
            raise self.refusal(last, f"The output of '{last.op_type}' is not quantized")
        return Program(tuple(self.ops), self.values, source.output[0], self._canonical(last.input[0]))

    def _lacking(self) -> str:
        """Return all operators of the graph that have no kernel, in the order they come."""
        kinds = dict.fromkeys(node.op_type for node in self.graph.node)
        return some([kind for kind in kinds if kind not in {*HANDLERS, "QuantizeLinear", "DequantizeLinear"}])

    # What stands between operators

    def quantized(self, name: str, node: NodeProto) -> Value:
        """Return the 8-bit Value behind the float tensor that ``node`` takes."""
        maker = self.makers.get(name)
        if maker is None or maker.op_type != "DequantizeLinear":
            raise self.refusal(node, f"An input of '{node.op_type}' is not quantized")
        return self._value(self._canonical(maker.input[0]), maker, name)

    def produced(self, node: NodeProto) -> Value:
        """Return the 8-bit Value that takes up what ``node`` puts out."""
        users = self.users.get(node.output[0], [])
        if len(users) != 1 or users[0].op_type != "QuantizeLinear":
            raise self.refusal(node, f"The output of '{node.op_type}' is not quantized")
        return self._value(users[0].output[0], users[0], node.output[0])

    def _canonical(self, name: str) -> str:
        """Return the name of the value itself where a tensor is only quantized anew on the same grid."""
        maker = self.makers.get(name)
        if maker is None or maker.op_type != "QuantizeLinear":
            return name
        before = self.makers.get(maker.input[0])
        if before is not None and before.op_type == "DequantizeLinear" and before.input[1:] == maker.input[1:]:
            return self._canonical(before.input[0])
        return name

    def _value(self, name: str, node: NodeProto, tensor: str) -> Value:
        if name not in self.values:
            shape = self.shapes.get(tensor)
            if shape is None or not all(shape):
                raise self.refusal(node, f"The shape of '{tensor}' is not known")
            scale, zero_point = self.constants[node.input[1]], self.constants[node.input[2]]
            if scale.size != 1 or zero_point.dtype != np.uint8:
                raise self.refusal(node, f"'{tensor}' is not on one grid of unsigned 8 bits")
            self.values[name] = Value(name, shape, float(scale.reshape(())), int(zero_point.reshape(())))
        return self.values[name]

    def _activations(self, node: NodeProto) -> list[str]:
        """Return the inputs that depend on the image."""
        return [name for name in node.input if name and self.constant_of(name) is None]

    def constant_of(self, name: str) -> str | None:
        if name in self.constants:
            return name
        maker = self.makers.get(name)
        if maker is not None and maker.op_type == "DequantizeLinear" and maker.input[0] in self.constants:
            return str(maker.input[0])
        return None

    def weight(self, node: NodeProto, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the integers of a constant and its scales, one a channel."""
        stored = self.constant_of(name)
        if stored is None or stored == name:
            raise self.refusal(node, f"A weight of '{node.op_type}' is not quantized")
        return self.constants[stored], np.atleast_1d(self.constants[self.makers[name].input[1]]).astype(np.float64)

    def add(self, op: Op) -> None:
        self.ops.append(op)

    def refusal(self, node: NodeProto, what: str) -> LoweringError:
        return LoweringError(
            f"{what} ({place_of(node)}): replace it in the model, or export to ONNX and run it on a larger device."
        )


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """Return a node's attributes as Python values."""
    from onnx import helper

    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}


def _channel_tables(
    low: _Lowering, node: NodeProto, value: Value, output: Value, weight: NDArray[Any], scales: NDArray[Any]
) -> dict[str, NDArray[Any]]:
    """Return weights, biases, multipliers and shifts of a layer with ``weight[channel, …]``."""
    channels = len(weight)
    steps = value.scale * np.broadcast_to(scales, (channels,))
    bias = np.zeros(channels, np.int32)
    if len(node.input) > 2 and node.input[2]:
        codes, bias_scales = low.weight(node, node.input[2])
        bias = np.rint(codes * np.broadcast_to(bias_scales, (channels,)) / steps).astype(np.int32)
    pairs = [multiplier_of(step / output.scale) for step in steps]
    return {
        "weights": np.ascontiguousarray(weight, np.int8),
        "biases": bias,
        "multipliers": np.array([mantissa for mantissa, _ in pairs], np.int32),
        "shifts": np.array([shift for _, shift in pairs], np.uint8),
    }


def _pads(low: _Lowering, node: NodeProto, given: Mapping[str, Any]) -> tuple[int, int]:
    if given.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise low.refusal(node, f"'{node.op_type}' leaves its padding open")
    top, left, *_ = given.get("pads") or [0, 0, 0, 0]  # what is missing at the end follows from the output's shape
    return int(top), int(left)


def _window(
    low: _Lowering, node: NodeProto, value: Value, output: Value, kernel: Sequence[int] | None = None
) -> dict[str, int]:
    """Return the sizes that convolutions and poolings share; the ``kernel``'s own where the node tells none."""
    given = attributes_of(node)
    if len(value.shape) != 3:
        raise low.refusal(node, f"The C kernel of '{node.op_type}' takes images (C, H, W), not shape {value.shape}")
    top, left = _pads(low, node, given)
    (channels, height, width), (_, out_height, out_width) = value.shape, output.shape
    rows, columns = kernel or given["kernel_shape"]
    (down, right), (spread_y, spread_x) = given.get("strides") or (1, 1), given.get("dilations") or (1, 1)
    return {
        "in_channels": channels, "in_height": height, "in_width": width, "out_height": out_height,
        "out_width": out_width, "kernel_height": rows, "kernel_width": columns, "stride_y": down,
        "stride_x": right, "dilation_y": spread_y, "dilation_x": spread_x, "pad_top": top, "pad_left": left,
    }  # fmt: skip


def _conv(low: _Lowering, node: NodeProto, values: list[Value], output: Value) -> None:
    (value,) = values
    weight, scales = low.weight(node, node.input[1])
    numbers = _window(low, node, value, output, weight.shape[2:])
    channels, groups = len(weight), int(attributes_of(node).get("group", 1))
    numbers |= {"out_channels": channels, "groups": groups, "in_zero": value.zero_point, "out_zero": output.zero_point}
    tables = _channel_tables(low, node, value, output, weight, scales)
    kind = "depthwise" if groups == numbers["in_channels"] == channels else "conv"
    low.add(Op(kind, (value.name,), output.name, numbers, tables, node.name or node.output[0]))


def _linear(low: _Lowering, node: NodeProto, values: list[Value], output: Value) -> None:
    (value,) = values
    weight, scales = low.weight(node, node.input[1])
    given = attributes_of(node)
    if given.get("alpha", 1.0) != 1.0 or given.get("beta", 1.0) != 1.0 or given.get("transA", 0):
        raise low.refusal(node, "The C kernel of 'Gemm' takes no factors")
    if not given.get("transB", 0):
        weight = weight.T
    numbers = {
        "rows": value.nbytes // weight.shape[1], "in_features": weight.shape[1], "out_features": len(weight),
        "in_zero": value.zero_point, "out_zero": output.zero_point,
    }  # fmt: skip
    tables = _channel_tables(low, node, value, output, weight, scales)
    low.add(Op("linear", (value.name,), output.name, numbers, tables, node.name or node.output[0]))


def _max_pool(low: _Lowering, node: NodeProto, values: list[Value], output: Value) -> None:
    (value,) = values
    numbers = _window(low, node, value, output) | {"in_zero": value.zero_point, "out_zero": output.zero_point}
    mantissa, shift = multiplier_of(value.scale / output.scale)
    low.add(Op("max_pool", (value.name,), output.name, numbers | {"multiplier": mantissa, "shift": shift}))


def _average_pool(low: _Lowering, node: NodeProto, values: list[Value], output: Value) -> None:
    (value,) = values
    given = attributes_of(node)
    if any(given.get("pads") or ()) or given.get("ceil_mode", 0):
        raise low.refusal(node, "The C kernel of 'AveragePool' takes no padding")
    numbers = _window(low, node, value, output)
    _mean(low, value, output, numbers, numbers["kernel_height"] * numbers["kernel_width"])


def _global_average_pool(low: _Lowering, node: NodeProto, values: list[Value], output: Value) -> None:
    (value,) = values
    channels, height, width = value.shape
    numbers = {
        "in_channels": channels, "in_height": height, "in_width": width, "out_height": 1, "out_width": 1,
        "kernel_height": height, "kernel_width": width, "stride_y": 1, "stride_x": 1, "dilation_y": 1,
        "dilation_x": 1, "pad_top": 0, "pad_left": 0,
    }  # fmt: skip
    _mean(low, value, output, numbers, height * width)


def _mean(low: _Lowering, value: Value, output: Value, numbers: dict[str, int], count: int) -> None:
    mantissa, shift = multiplier_of(value.scale / output.scale / count)
    numbers = numbers | {"in_zero": value.zero_point, "out_zero": output.zero_point}
    low.add(Op("average_pool", (value.name,), output.name, numbers | {"multiplier": mantissa, "shift": shift}))


def _add(low: _Lowering, node: NodeProto, values: list[Value], output: Value) -> None:
    if len(values) != 2 or values[0].shape != values[1].shape:
        raise low.refusal(node, "The C kernel of 'Add' adds two values of one shape")
    first, second = (value.scale / output.scale for value in values)
    shift = multiplier_of(max(first, second))[1]  # one shift for both, so that they are added before rounding
    numbers = {
        "size": output.nbytes, "first_zero": values[0].zero_point, "second_zero": values[1].zero_point,
        "out_zero": output.zero_point, "first_multiplier": round(first * 2**shift),
        "second_multiplier": round(second * 2**shift), "shift": shift,
    }  # fmt: skip
    low.add(Op("add", (values[0].name, values[1].name), output.name, numbers))


def _rescale(low: _Lowering, value: Value, output: Value, bounds: tuple[int, int] = (0, 255), offset: int = 0) -> None:
    """Add a copy of ``value`` on the grid of ``output``, kept within ``bounds`` of its own, from ``offset`` on."""
    mantissa, shift = multiplier_of(value.scale / output.scale)
    numbers = {
        "size": value.nbytes, "offset": offset, "low": bounds[0], "high": bounds[1], "in_zero": value.zero_point,
        "out_zero": output.zero_point, "multiplier": mantissa, "shift": shift,
    }  # fmt: skip
    low.add(Op("rescale", (value.name,), output.name, numbers))


def _clip(low: _Lowering, node: NodeProto, values: list[Value], output: Value) -> None:
    (value,) = values
    reals: Sequence[float] = (0.0, np.inf)
    if node.op_type == "Clip":
        ends = [low.constant_of(name) if name else None for name in [*node.input[1:], "", ""][:2]]
        reals = [
            default if name is None else float(low.constants[name].reshape(()))
            for name, default in zip(ends, (-np.inf, np.inf), strict=True)
        ]
    codes = np.clip(np.rint(np.array(reals) / value.scale) + value.zero_point, 0, 255)
    _rescale(low, value, output, (int(codes[0]), int(codes[1])))


def _concat(low: _Lowering, node: NodeProto, values: list[Value], output: Value) -> None:
    if attributes_of(node)["axis"] not in (1, -len(output.shape)):
        raise low.refusal(node, "The C kernel of 'Concat' joins channels only")
    offset = 0
    for value in values:
        _rescale(low, value, output, offset=offset)
        offset += value.nbytes


def _reshape(low: _Lowering, node: NodeProto, values: list[Value], output: Value) -> None:
    _rescale(low, values[0], output)


def _softmax(low: _Lowering, node: NodeProto, values: list[Value], output: Value) -> None:
    (value,) = values
    if attributes_of(node).get("axis", -1) not in (-1, len(value.shape)):
        raise low.refusal(node, "The C kernel of 'Softmax' takes the last axis only")
    distances = np.arange(256)
    table = np.rint(np.exp(-value.scale * distances) * 2**24).astype(np.int32)  # e^(x - greatest x), in 2⁻²⁴
    mantissa, shift = multiplier_of(1 / output.scale)
    numbers = {
        "rows": value.nbytes // value.shape[-1], "columns": value.shape[-1], "out_zero": output.zero_point,
        "multiplier": mantissa, "shift": shift,
    }  # fmt: skip
    low.add(Op("softmax", (value.name,), output.name, numbers, {"exponentials": table}))


#: By ONNX operator.
HANDLERS: dict[str, Handler] = {
    "Add": _add, "AveragePool": _average_pool, "Clip": _clip, "Concat": _concat, "Conv": _conv,
    "Flatten": _reshape, "Gemm": _linear, "GlobalAveragePool": _global_average_pool, "MatMul": _linear,
    "MaxPool": _max_pool, "Relu": _clip, "Reshape": _reshape, "Softmax": _softmax,
}  # fmt: skip
