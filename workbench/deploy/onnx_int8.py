"""ONNX in int8, as ``workbench.int8`` writes it, and what of a recipe it cannot keep."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from workbench.int8 import keeps_scales, signed_scales, write_int8
from workbench.recipe import Recipe

from .format import FormatError, Source
from .limits import some, zeros_stay
from .onnx_formats import OnnxFormat

if TYPE_CHECKING:
    from onnx import ModelProto

STEP = "quantize: {bits: 8, scheme: symmetric, activations: {bits: 8}}"


class OnnxInt8(OnnxFormat):
    """Weights and activations in int8, between QuantizeLinear and DequantizeLinear."""

    name, title, suffix = "onnx-int8", "ONNX int8", ".int8.onnx"
    summary = "8-bit weights and activations between QuantizeLinear and DequantizeLinear; runs on integer kernels"

    def complete(self, recipe: Recipe, calibrated: bool = True) -> tuple[Recipe, tuple[str, ...]]:
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
    return write_int8(source.graph, source.compressed, source.calibration)


def int8_remarks(source: Source) -> Iterator[str]:
    """Say where the int8 file has other grids than the recipe."""
    compressed = source.compressed
    unlike = [
        name
        for name, codes in compressed.codes.items()
        if signed_scales(codes) is None and name not in source.graph.looked_up
    ]
    if unlike:
        yield (
            f"Integer kernels take weights around zero with a scale a channel: {some(unlike)} were rounded anew to "
            "such a grid. With quantize: {scheme: symmetric, per: channel} the recipe's codes are kept."
        )
    looked_up = [name for name, codes in compressed.codes.items() if not keeps_scales(source.graph, name, codes)]
    if looked_up:
        yield f"Rows that are looked up have one scale for all in this file: {some(looked_up)} were rounded anew."
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
    narrow = sorted({grid.bits for grid in compressed.grids.values() if grid.bits < 8 and grid.centre is None})
    if narrow:
        yield f"Activations of {narrow[0]} bits are kept in 8, over the same range: integer kernels have no fewer."
    if any(grid.centre is not None for grid in compressed.grids.values()):
        yield "Inputs of two values are told apart in float, then kept in 8 bits: no kernel here counts bits."
    if any(grid.by_batch for grid in compressed.grids.values()):
        yield "Ranges taken from each batch are calibrated once in this file: its grids are fixed."
