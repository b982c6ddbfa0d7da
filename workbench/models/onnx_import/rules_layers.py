"""Operators with weights: convolutions, matrix products, normalisations, embeddings."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from .builder import Builder, Rule, to_tensor
from .op import Array, CannotImport, Op, Value
from .padding import begins, is_symmetric, pad, paddings, spatial

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


def conv(builder: Builder, op: Op) -> Value:
    """``Conv`` → ``nn.Conv1d/2d/3d``; uneven paddings are done before it."""
    images, weight, bias = builder.node(op.input(0)), _weight(op, 1), op.constant(2)
    rank = weight.ndim - 2
    pads = paddings(op, builder.shape(images), weight.shape[2:])
    if not is_symmetric(pads):
        images, pads = pad(builder, images, pads), ((0, 0),) * rank
    group = op.attribute("group", 1)
    settings = (begins(pads), spatial(op, "strides", rank), spatial(op, "dilations", rank), group)

    def make() -> Any:
        padding, stride, dilation, groups = settings
        layer = _of_rank(_CONVOLUTIONS, rank)(
            weight.shape[1] * groups, weight.shape[0], weight.shape[2:], stride, padding, dilation, groups,
            bias is not None, device="meta",
        )  # fmt: skip
        return _filled(layer, weight=weight, bias=bias)

    return _shared(builder, op, settings, make, images)


def conv_transpose(builder: Builder, op: Op) -> Value:
    """``ConvTranspose`` → ``nn.ConvTranspose1d/2d/3d``."""
    weight, bias = _weight(op, 1), op.constant(2)
    rank, group = weight.ndim - 2, op.attribute("group", 1)
    if op.attribute("output_shape") or op.attribute("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise CannotImport("fixes its output's shape")
    pads = paddings(op, (), weight.shape[2:])
    if not is_symmetric(pads):
        raise CannotImport("pads its sides unevenly")
    extra = spatial(op, "output_padding", rank, 0)
    settings = (spatial(op, "strides", rank), begins(pads), extra, group, spatial(op, "dilations", rank))

    def make() -> Any:
        stride, padding, output_padding, groups, dilation = settings
        layer = _of_rank(_TRANSPOSED, rank)(
            weight.shape[0], weight.shape[1] * groups, weight.shape[2:], stride, padding, output_padding,
            groups, bias is not None, dilation, device="meta",
        )  # fmt: skip
        return _filled(layer, weight=weight, bias=bias)

    return _shared(builder, op, settings, make, op.input(0))


def gemm(builder: Builder, op: Op) -> Value:
    """``Gemm`` with constant weights → ``nn.Linear``; of two computed matrices → products and sums."""
    alpha, beta = op.attribute("alpha", 1.0), op.attribute("beta", 1.0)
    weight, bias = op.input(1), op.optional(2)
    settings = (op.attribute("transB", 0), alpha, beta)
    if isinstance(weight, np.ndarray) and not isinstance(bias, fx.Node) and not op.attribute("transA", 0):
        matrix = weight if settings[0] else weight.T
        rows = len(matrix)
        if bias is None or bias.size in (1, rows):
            added = None if bias is None else np.broadcast_to(beta * bias.reshape(-1), (rows,))
            scaled = matrix if alpha == 1 else alpha * matrix
            return _linear(builder, op, settings, scaled, added, (1, 2), op.input(0))
    left, right = builder.node(op.input(0)), builder.node(weight)
    left = builder.call(torch.t, left) if op.attribute("transA", 0) else left
    right = builder.call(torch.t, right) if settings[0] else right
    product = builder.call(operator.mul, builder.call(torch.matmul, left, right), alpha)
    return product if bias is None else builder.call(operator.add, product, builder.call(operator.mul, bias, beta))


def matmul(builder: Builder, op: Op) -> Value:
    """``MatMul`` with a constant matrix → ``nn.Linear``, taking in an ``Add`` of a bias that follows."""
    left, right = op.input(0), op.input(1)
    if not isinstance(right, np.ndarray) or right.ndim != 2:
        return builder.call(torch.matmul, builder.node(left), builder.node(right))
    bias: Array | None = None
    index: tuple[str, ...] = ()
    add = builder.sole_consumer(op.proto.output[0])
    if add is not None and add.op_type == "Add":
        other = add.input[1] if add.input[0] == op.proto.output[0] else add.input[0]
        value = builder.values.get(other)
        if isinstance(value, np.ndarray) and value.shape == (right.shape[1],):
            bias, index = value, (other,)
            builder.fused[add.output[0]] = op.proto.output[0]
    return _linear(builder, op, index, right.T, bias, (1,), left, named=index)


def batch_norm(builder: Builder, op: Op) -> Value:
    """``BatchNormalization`` as in inference → ``nn.BatchNorm1d/2d/3d``."""
    if op.attribute("training_mode", 0):
        raise CannotImport("was exported in training mode")
    scale, bias, mean, variance = (_weight(op, index) for index in (1, 2, 3, 4))
    layer = _of_rank(_BATCH_NORMS, len(builder.shape(op.input(0))) - 1)(
        len(scale), op.attribute("epsilon", 1e-5), 1 - op.attribute("momentum", 0.9), device="meta"
    )
    layer.num_batches_tracked = torch.tensor(0)
    layer = _filled(layer, weight=scale, bias=bias)
    layer.running_mean, layer.running_var = to_tensor(mean), to_tensor(variance)
    return builder.module(op, layer, op.input(0), weights=(1, 2))


def layer_norm(builder: Builder, op: Op) -> Value:
    """``LayerNormalization`` over the last dimensions → ``nn.LayerNorm``."""
    shape, scale = builder.shape(op.input(0)), _weight(op, 1)
    axis = op.attribute("axis", -1) % len(shape)
    layer = nn.LayerNorm(shape[axis:], op.attribute("epsilon", 1e-5))
    bias = op.constant(2)
    filled = _filled(
        layer,
        weight=np.broadcast_to(scale, shape[axis:]),
        bias=np.broadcast_to(np.zeros(1, np.float32) if bias is None else bias, shape[axis:]),
    )
    return builder.module(op, filled, op.input(0), weights=(1, 2))


def group_norm(builder: Builder, op: Op) -> Value:
    """``GroupNormalization`` (opset 21, one scale a channel) → ``nn.GroupNorm``."""
    scale, channels, groups = _weight(op, 1), builder.shape(op.input(0))[1], op.attribute("num_groups")
    spread = 1 if len(scale) == channels else channels // groups  # before opset 21: one scale a group
    layer = nn.GroupNorm(groups, channels, op.attribute("epsilon", 1e-5))
    filled = _filled(layer, weight=scale.repeat(spread), bias=_weight(op, 2).repeat(spread))
    return builder.module(op, filled, op.input(0), weights=(1, 2))


def instance_norm(builder: Builder, op: Op) -> Value:
    """``InstanceNormalization`` → ``nn.InstanceNorm1d/2d/3d``."""
    scale = _weight(op, 1)
    make = _of_rank(_INSTANCE_NORMS, len(builder.shape(op.input(0))) - 2)
    layer = make(len(scale), op.attribute("epsilon", 1e-5), affine=True)
    filled = _filled(layer, weight=scale, bias=_weight(op, 2))
    return builder.module(op, filled, op.input(0), weights=(1, 2))


def prelu(builder: Builder, op: Op) -> Value:
    """``PRelu`` with one slope, or one a channel → ``nn.PReLU``."""
    slope, shape = _weight(op, 1), builder.shape(op.input(0))
    per_channel = slope.shape in ((shape[1], *[1] * (len(shape) - 2)), (1, shape[1], *[1] * (len(shape) - 2)))
    if slope.size != 1 and not per_channel:
        raise CannotImport("has a slope that is not one a channel")
    return builder.module(op, _filled(nn.PReLU(slope.size), weight=slope.reshape(-1)), op.input(0), weights=(1,))


LAYERS: dict[str, Rule] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Gemm": gemm,
    "MatMul": matmul,
    "BatchNormalization": batch_norm,
    "LayerNormalization": layer_norm,
    "GroupNormalization": group_norm,
    "InstanceNormalization": instance_norm,
    "PRelu": prelu,
}


def _linear(
    builder: Builder,
    op: Op,
    settings: Any,
    weight: Array,
    bias: Array | None,
    weights: tuple[int, ...],
    given: Value,
    named: tuple[str, ...] = (),
) -> fx.Node:
    def make() -> Any:
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
        return _filled(layer, weight=weight, bias=bias)

    return _shared(builder, op, settings, make, given, weights, named)


def _shared(
    builder: Builder,
    op: Op,
    settings: Any,
    make: Any,
    given: Value,
    weights: tuple[int, ...] = (1, 2),
    named: tuple[str, ...] = (),
) -> fx.Node:
    """Call a layer; one whose weights an earlier node had, with the same settings, is that layer."""
    names = [op.proto.input[index] for index in weights if index < len(op.proto.input)]
    key = (op.proto.op_type, *names, *named, settings)
    if key not in builder.shared:
        sources = [builder.source.get(name, "") for name in (*names, *named)]
        builder.shared[key] = builder.install(builder.names.claim(op.proto, sources), make())
    return builder.call_module(builder.shared[key], given)


def _weight(op: Op, index: int) -> Array:
    value = op.constant(index)
    if value is None:
        raise CannotImport(f"has no input {index}")
    return value


def _filled(layer: Any, **tensors: Array | None) -> Any:
    for name, value in tensors.items():
        if value is not None:
            setattr(layer, name, nn.Parameter(to_tensor(np.ascontiguousarray(value)), requires_grad=False))
    return layer


def _of_rank(types: tuple[Any, ...], rank: int) -> Any:
    if not 1 <= rank <= len(types):
        raise CannotImport(f"works on {rank} spatial dimensions")
    return types[rank - 1]
