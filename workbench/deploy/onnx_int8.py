"""ONNX in int8: the recipe's own codes and grids between QuantizeLinear and DequantizeLinear.

Integer kernels want signed weights around zero with one scale a channel, and unsigned activations. Weights
and layer inputs keep the recipe's codes wherever they have that form, BatchNorm's factor going into the
scale; what joins and leaves layers between (sums, outputs of convolutions) gets a calibrated grid, without
which nothing would be fused. Where codes cannot be kept, it is said.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from workbench.recipe import Recipe
from workbench.run.onnx_fold import fold_norms
from workbench.run.qdq import ValueGrid, WeightGrid, export_int8
from workbench.techniques.storage import Codes

from .format import FormatError, Source
from .limits import some, zeros_stay
from .onnx_formats import OnnxFormat

if TYPE_CHECKING:
    from onnx import ModelProto

STEP = "quantize: {bits: 8, scheme: symmetric, activations: {bits: 8}}"
#: Values go through these unchanged, or in order: a grid after them is one before them.
_KEEP = frozenset({"Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "MaxPool", "Identity"})
_LARGEST = 127


class OnnxInt8(OnnxFormat):
    """Weights and activations in int8, between QuantizeLinear and DequantizeLinear."""

    name, title, suffix = "onnx-int8", "ONNX int8", ".int8.onnx"
    summary = "8-bit weights and activations between QuantizeLinear and DequantizeLinear; runs on integer kernels"

    def complete(self, recipe: Recipe) -> tuple[Recipe, tuple[str, ...]]:
        """Add 8-bit weights and activations where the recipe has no quantized activations."""
        return with_int8(recipe)

    def remarks(self, source: Source) -> Iterator[str]:
        """Say which codes could not be kept, and what is stored dense."""
        yield from int8_remarks(source)
        yield from zeros_stay(source.compressed, "ONNX")

    def model(self, source: Source) -> ModelProto:
        """Return the QDQ graph."""
        return int8_model(source)


def with_int8(recipe: Recipe) -> tuple[Recipe, tuple[str, ...]]:
    """Return the recipe with 8-bit weights and activations, and a sentence where they had to be added."""
    if any(getattr(step.settings, "activations", None) is not None for step in recipe.steps):
        return recipe, ()
    added = Recipe.parse(f"- {STEP}")
    said = f"Integer kernels need quantized activations, which the recipe does not have: added '{STEP}'."
    return Recipe((*recipe.steps, *added.steps)), (said,)


def int8_model(source: Source) -> ModelProto:
    """Return the QDQ graph of ``source``; raises ``FormatError`` where there is nothing to calibrate by."""
    if source.calibration is None:
        raise FormatError("An int8 file needs calibration images, and these data have none: give a train split.")
    compressed = source.compressed
    graph = source.graph
    model = graph.build(compressed.tensors)
    grids: dict[str, ValueGrid] = {}
    for layer, grid in compressed.grids.items():
        if grid.by_batch:
            continue
        widened = ValueGrid(grid.scale, grid.zero_point)
        if grid.bits < 8:  # the same range, in the steps of 8 bits
            shrink = (2**grid.bits - 1) / 255
            widened = ValueGrid(grid.scale * shrink, round(grid.zero_point / shrink))
        grids.update(dict.fromkeys(graph.values(layer), widened))
    factors = fold_norms(model)
    weights: dict[str, WeightGrid] = {}
    for name, codes in compressed.codes.items():
        scales = signed_scales(codes)
        if scales is not None:
            factor = np.abs(factors.get(name, np.float32(1)))
            weights[name] = WeightGrid(scales * factor, 0 if codes.axis is None else codes.axis)
    _through_moves(model, grids, weights)
    return export_int8(model, source.calibration.numpy(), reduce_range=False, grids=grids, weights=weights)


def signed_scales(codes: Codes) -> NDArray[np.float32] | None:
    """Return the scale of each output channel where the codes, less their zero points, are 8-bit integers.

    None where they are not: groups with scales of their own, or an affine grid of 8 bits far off zero.
    """
    if codes.group is not None or codes.bits > 8:
        return None
    signed = codes.codes.float() - codes.spread(codes.zero_point)
    if signed.numel() and not (signed.min() >= -_LARGEST - 1 and signed.max() <= _LARGEST):
        return None
    channels = codes.codes.shape[0 if codes.axis is None else codes.axis]
    scales: NDArray[np.float32] = np.broadcast_to(codes.scale.numpy(), (channels,)).astype(np.float32)
    return scales


def int8_remarks(source: Source) -> Iterator[str]:
    """Say where the int8 file has other grids than the recipe."""
    compressed = source.compressed
    unlike = [name for name, codes in compressed.codes.items() if signed_scales(codes) is None]
    if unlike:
        yield (
            f"Integer kernels take weights around zero with a scale a channel: {some(unlike)} were rounded anew to "
            "such a grid. With quantize: {scheme: symmetric, per: channel} the recipe's codes are kept."
        )
    recurrent = [layer.name for layer in source.subject.layers if layer.type in ("LSTM", "GRU", "RNN")]
    if recurrent:
        yield f"ONNX Runtime has no integer kernel for a quantized recurrent layer: {some(recurrent)} stays in fp32."
    floats = [
        layer.weight
        for layer in source.subject.layers
        if layer.weight not in compressed.codes and layer.name not in {*compressed.factors, *recurrent}
    ]
    if floats:
        yield f"The weights of {some(floats)} are on no uniform grid in the recipe; in this file they have 8 bits."
    narrow = sorted({grid.bits for grid in compressed.grids.values() if grid.bits < 8})
    if narrow:
        yield f"Activations of {narrow[0]} bits are kept in 8, over the same range: integer kernels have no fewer."
    if any(grid.by_batch for grid in compressed.grids.values()):
        yield "Ranges taken from each batch are calibrated once in this file: its grids are fixed."


def _through_moves(model: ModelProto, grids: dict[str, ValueGrid], weights: dict[str, WeightGrid]) -> None:
    """Carry grids over nodes that only move values: of activations upwards, of weights downwards."""
    from onnx import helper

    made = {node.output[0]: node for node in model.graph.node}
    for name in list(grids):
        node = made.get(name)
        while node is not None and node.op_type in _KEEP and node.input[0] not in grids:
            grids[node.input[0]] = grids[name]
            node = made.get(node.input[0])
    for node in model.graph.node:
        if node.op_type == "Transpose" and node.input[0] in weights:
            weight = weights[node.input[0]]
            (order,) = (helper.get_attribute_value(entry) for entry in node.attribute if entry.name == "perm")
            weights[node.output[0]] = WeightGrid(weight.scales, list(order).index(weight.axis))
