"""Operators on each number by itself: activations as modules, arithmetic as functions."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from onnx import helper
from torch import fx, nn

from .builder import Builder, Rule
from .op import CannotImport, Op, Value


def activation(make: Callable[[Op], nn.Module]) -> Rule:
    """Return the rule of an operator that is one module of one input."""
    return lambda builder, op: builder.module(op, make(op), op.input(0))


def clip(builder: Builder, op: Op) -> Value:
    """``Clip``: 0..6 → ``nn.ReLU6``, 0.. → ``nn.ReLU``, two bounds → ``nn.Hardtanh``."""
    low = float(op.setting("min", 1, -math.inf))
    high = float(op.setting("max", 2, math.inf))
    layer: nn.Module = nn.Hardtanh(low, high)
    if low == 0:
        layer = nn.ReLU6() if high == 6 else nn.ReLU() if high >= _LARGEST else layer
    return builder.module(op, layer, op.input(0))


def hard_sigmoid(builder: Builder, op: Op) -> Value:
    """``HardSigmoid``: torch's slope of 1/6 → ``nn.Hardsigmoid``, others as arithmetic."""
    slope, shift = op.attribute("alpha", 0.2), op.attribute("beta", 0.5)
    if abs(slope - 1 / 6) < 1e-6 and shift == 0.5:
        return builder.module(op, nn.Hardsigmoid(), op.input(0))
    line = builder.call(operator.add, builder.call(operator.mul, op.input(0), slope), shift)
    return builder.call(torch.clamp, line, 0.0, 1.0)


def softmax(builder: Builder, op: Op) -> Value:
    """``Softmax`` and ``LogSoftmax``; before opset 13 they flattened what follows their axis."""
    rank = len(builder.shape(op.input(0)))
    axis = op.attribute("axis", -1 if op.opset >= 13 else 1) % rank
    if op.opset < 13 and axis != rank - 1:
        raise CannotImport("runs over several dimensions at once")
    make = nn.Softmax if op.proto.op_type == "Softmax" else nn.LogSoftmax
    return builder.module(op, make(dim=-1 if axis == rank - 1 else axis), op.input(0))


def binary(function: Callable[..., Any]) -> Rule:
    """Return the rule of an operator on two or more inputs, such as ``Add``."""

    def rule(builder: Builder, op: Op) -> Value:
        result = op.input(0)
        for index in range(1, len(op.inputs)):
            left, right = _operands(builder, result, op.input(index))
            result = builder.call(function, left, right)
        return result

    return rule


def unary(function: Callable[..., Any]) -> Rule:
    """Return the rule of an operator on one input, such as ``Sqrt``."""
    return lambda builder, op: builder.call(function, op.input(0))


def cast(builder: Builder, op: Op) -> Value:
    """``Cast``; among floating-point types nothing is done, since everything here is float32."""
    wanted = np.dtype(helper.tensor_dtype_to_np_dtype(op.attribute("to")))
    node = builder.node(op.input(0))
    if wanted.kind == "f" or wanted.name == "bfloat16":
        floating = bool(builder.meta[node].is_floating_point())
        return node if floating else builder.call(torch.Tensor.float, node)
    return builder.call(torch.Tensor.to, node, getattr(torch, wanted.name))


def passed(builder: Builder, op: Op) -> Value:
    """``Identity`` and, in inference, ``Dropout``."""
    return op.input(0)


_LARGEST = float(np.finfo(np.float32).max)
_ACTIVATIONS: dict[str, Callable[[Op], nn.Module]] = {
    "Relu": lambda op: nn.ReLU(),
    "LeakyRelu": lambda op: nn.LeakyReLU(op.attribute("alpha", 0.01)),
    "Elu": lambda op: nn.ELU(op.attribute("alpha", 1.0)),
    "Celu": lambda op: nn.CELU(op.attribute("alpha", 1.0)),
    "Selu": lambda op: nn.SELU(),
    "Sigmoid": lambda op: nn.Sigmoid(),
    "HardSwish": lambda op: nn.Hardswish(),
    "Mish": lambda op: nn.Mish(),
    "Softplus": lambda op: nn.Softplus(),
    "Softsign": lambda op: nn.Softsign(),
    "Tanh": lambda op: nn.Tanh(),
    "Gelu": lambda op: nn.GELU(op.attribute("approximate", "none")),
}
_BINARY: dict[str, Callable[..., Any]] = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mul": operator.mul,
    "Div": operator.truediv,
    "Pow": operator.pow,
    "Sum": operator.add,
    "Max": torch.maximum,
    "Min": torch.minimum,
}
_UNARY: dict[str, Callable[..., Any]] = {
    "Abs": torch.abs,
    "Neg": operator.neg,
    "Exp": torch.exp,
    "Log": torch.log,
    "Sqrt": torch.sqrt,
    "Reciprocal": torch.reciprocal,
    "Erf": torch.erf,
    "Sin": torch.sin,
    "Cos": torch.cos,
    "Floor": torch.floor,
    "Ceil": torch.ceil,
    "Round": torch.round,
}

ELEMENTWISE: dict[str, Rule] = {
    **{name: activation(make) for name, make in _ACTIVATIONS.items()},
    **{name: binary(function) for name, function in _BINARY.items()},
    **{name: unary(function) for name, function in _UNARY.items()},
    "Clip": clip,
    "HardSigmoid": hard_sigmoid,
    "Softmax": softmax,
    "LogSoftmax": softmax,
    "Cast": cast,
    "Identity": passed,
    "Dropout": passed,
}


def _operands(builder: Builder, left: Value, right: Value) -> tuple[Any, Any]:
    """Return both sides, a constant of one number as that number where broadcasting allows."""

    def side(value: Value, other: Value) -> Any:
        if isinstance(value, fx.Node) or not isinstance(other, fx.Node):
            return value
        small = value.size == 1 and value.ndim <= len(builder.shape(other))
        return value.reshape(()) if small else value

    return side(left, right), side(right, left)
