"""Operators that move numbers around: shapes, axes, slices, joints."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from .builder import BATCH, Builder, Rule, to_tensor
from .op import Array, CannotImport, Op, Value
from .padding import pad


def shape_of(builder: Builder, op: Op) -> Value:
    """``Shape``: a constant here, in which ``BATCH`` stands for the batch."""
    whole = builder.shape(op.input(0))
    start, end = op.attribute("start", 0), op.attribute("end", len(whole))
    return np.array(whole[start:end], np.int64)


def size_of(builder: Builder, op: Op) -> Value:
    """``Size``: how many numbers, a constant here."""
    return np.array(math.prod(builder.shape(op.input(0))), np.int64)


def reshape(builder: Builder, op: Op) -> Value:
    """``Reshape``; to ``(batch, all the rest)`` it is a flattening, which follows pruned channels."""
    target = op.constant(1)
    if target is None:
        raise CannotImport("has no target shape")
    given = builder.shape(op.input(0))
    wanted = [
        given[index] if size == 0 and not op.attribute("allowzero", 0) else int(size)
        for index, size in enumerate(target)
    ]
    wanted = _with_batch(builder, given, wanted)
    known = math.prod(size for size in wanted if size != -1)
    full = [math.prod(given) // known if size == -1 else size for size in wanted]
    if full == list(given):
        return op.input(0)
    if len(full) == 2 and full[0] == given[0] == BATCH:
        return builder.call(torch.flatten, op.input(0), 1)
    sizes = [-1 if want == -1 and size % BATCH else builder.dim(size) for want, size in zip(wanted, full, strict=True)]
    return builder.call(torch.reshape, op.input(0), sizes)


def flatten(builder: Builder, op: Op) -> Value:
    """``Flatten`` to two dimensions around ``axis``."""
    given = builder.shape(op.input(0))
    axis = op.attribute("axis", 1)
    axis = axis + len(given) if axis < 0 else axis
    if axis == 1:
        return builder.call(torch.flatten, op.input(0), 1)
    sizes = [builder.dim(math.prod(given[:axis])), builder.dim(math.prod(given[axis:]))]
    return builder.call(torch.reshape, op.input(0), sizes)


def transpose(builder: Builder, op: Op) -> Value:
    """``Transpose``; without ``perm`` it reverses the dimensions."""
    rank = len(builder.shape(op.input(0)))
    order = op.attribute("perm") or list(reversed(range(rank)))
    return builder.call(torch.permute, op.input(0), list(order))


def squeeze(builder: Builder, op: Op) -> Value:
    """``Squeeze`` the given dimensions, or all of size 1 but the batch's."""
    shape = builder.shape(op.input(0))
    axes = op.setting("axes", 1) or [axis for axis, size in enumerate(shape) if size == 1]
    return builder.call(torch.squeeze, op.input(0), tuple(axes))


def unsqueeze(builder: Builder, op: Op) -> Value:
    """``Unsqueeze`` at places of the result."""
    axes = op.setting("axes", 1)
    rank = len(builder.shape(op.input(0))) + len(axes)
    result = op.input(0)
    for axis in sorted(axis % rank for axis in axes):
        result = builder.call(torch.unsqueeze, result, axis)
    return result


def concat(builder: Builder, op: Op) -> Value:
    """``Concat``; a constant joined to every image (a class token) is repeated over the batch."""
    axis = op.attribute("axis")
    parts = [op.input(index) for index in range(len(op.inputs))]
    batched = any(builder.shape(part)[0] == BATCH for part in parts)
    rank = len(builder.shape(parts[0]))
    if batched and axis % rank != 0:
        parts = [_over_batch(builder, part) for part in parts]
    return builder.call(torch.cat, [builder.node(part) for part in parts], axis)


def split(builder: Builder, op: Op) -> Value | tuple[Value, ...]:
    """``Split`` into given sizes, or into equal parts (the last one smaller)."""
    shape, axis = builder.shape(op.input(0)), op.attribute("axis", 0)
    count = len(op.proto.output)
    sizes = op.setting("split", 1)
    if sizes is None:
        sizes = [-(-shape[axis] // count)] * count
        sizes[-1] = shape[axis] - sum(sizes[:-1])
    parts = builder.call(torch.split, op.input(0), sizes, axis)
    return tuple(builder.call(operator.getitem, parts, index) for index in range(count))


def slice_of(builder: Builder, op: Op) -> Value:
    """``Slice`` with constant bounds."""
    shape = builder.shape(op.input(0))
    starts, ends = op.setting("starts", 1), op.setting("ends", 2)
    axes = op.setting("axes", 3) or list(range(len(starts)))
    steps = op.setting("steps", 4) or [1] * len(starts)
    places: list[Any] = [slice(None)] * len(shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 1:
            raise CannotImport("runs backwards")
        whole = start == 0 and step == 1 and end >= shape[axis]
        if axis % len(shape) == 0 and shape[0] == BATCH and not whole:
            raise CannotImport("takes some images of the batch")
        places[axis % len(shape)] = slice(None) if whole else slice(start, min(end, 2**31), step)
    return builder.call(operator.getitem, op.input(0), tuple(places))


def gather(builder: Builder, op: Op) -> Value:
    """``Gather``: constant places are selected, a constant table is an ``nn.Embedding``."""
    table, places, axis = op.input(0), op.input(1), op.attribute("axis", 0)
    if isinstance(places, fx.Node):
        if isinstance(table, fx.Node) or table.ndim != 2 or axis != 0:
            raise CannotImport("looks up places that come from the images")
        layer = nn.Embedding.from_pretrained(to_tensor(table))
        return builder.module(op, layer, places, weights=(0,))
    size = builder.shape(table)[axis]
    if axis % len(builder.shape(table)) == 0 and size == BATCH:
        raise CannotImport("takes some images of the batch")
    wrapped = np.where(places < 0, places + size, places)
    if places.ndim == 0:
        return builder.call(torch.select, table, axis, int(wrapped))
    if places.ndim == 1:
        return builder.call(torch.index_select, table, axis, wrapped)
    raise CannotImport(f"looks up a table of places of {places.ndim} dimensions")


def padded(builder: Builder, op: Op) -> Value:
    """``Pad`` with a constant, by reflection or with the edge."""
    rank = len(builder.shape(op.input(0)))
    pads, fill = op.setting("pads", 1), op.setting("value", 2, 0.0)
    axes = [axis % rank for axis in op.setting("axes", 3) or range(rank)]
    pairs = [(0, 0)] * rank
    for index, axis in enumerate(axes):
        pairs[axis] = (pads[index], pads[index + len(axes)])
    modes = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    mode = modes[op.attribute("mode", "constant")]
    first = next((axis for axis, pair in enumerate(pairs) if pair != (0, 0)), rank)
    if first == rank:
        return op.input(0)
    used = pairs[first:] if mode == "constant" else pairs[2:]
    fill = fill[0] if isinstance(fill, list) else fill
    return pad(builder, builder.node(op.input(0)), used, float(fill), mode)


def expand(builder: Builder, op: Op) -> Value:
    """``Expand`` by broadcasting."""
    target = op.constant(1)
    given = builder.shape(op.input(0))
    shape = np.broadcast_shapes(given, tuple(int(size) for size in _target(target)))
    if shape == given:
        return op.input(0)
    return builder.call(torch.Tensor.expand, builder.node(op.input(0)), *(builder.dim(size) for size in shape))


def full(builder: Builder, op: Op) -> Value:
    """``ConstantOfShape`` of a shape that holds the batch."""
    value = op.attributes.get("value")
    fill = 0.0 if value is None else float(np.frombuffer(value.raw_data or b"\0\0\0\0", np.float32)[0])
    return builder.call(torch.full, [builder.dim(int(size)) for size in _target(op.constant(0))], fill)


SHAPES: dict[str, Rule] = {
    "Shape": shape_of,
    "Size": size_of,
    "Reshape": reshape,
    "Flatten": flatten,
    "Transpose": transpose,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Concat": concat,
    "Split": split,
    "Slice": slice_of,
    "Gather": gather,
    "Pad": padded,
    "Expand": expand,
    "ConstantOfShape": full,
}


def _with_batch(builder: Builder, given: tuple[int, ...], wanted: list[int]) -> list[int]:
    """Put the batch where the file fixed it: into a leading size that is a multiple of the fixed one."""
    fixed = builder.fixed_batch
    if not wanted or fixed is None or not given or given[0] % BATCH or any(size % BATCH == 0 for size in wanted):
        return wanted
    if wanted[0] > 0 and wanted[0] % fixed == 0:
        return [wanted[0] // fixed * BATCH, *wanted[1:]]
    return wanted


def _over_batch(builder: Builder, part: Value) -> Value:
    shape = builder.shape(part)
    if shape[0] == BATCH or shape[0] not in (1, builder.fixed_batch):
        return part
    node = builder.node(part)
    return builder.call(torch.Tensor.expand, node, builder.batch, *([-1] * (len(shape) - 1)))


def _target(value: Array | None) -> list[int]:
    if value is None:
        raise CannotImport("has no target shape")
    return [int(size) for size in value]
