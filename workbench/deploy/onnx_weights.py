"""ONNX with weights of few bits: 16-bit floats, or integers of 4 and 2 bits that are unpacked to run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, ClassVar

from workbench.compressed import CompressedModel
from workbench.recipe import Recipe
from workbench.run.onnx_file import onnx_file, width
from workbench.run.onnx_fold import fold_norms
from workbench.run.onnx_grids import GRID

from .format import FormatError, Source
from .limits import activations_simulated, codes_widen, some, tables_widen, zeros_stay
from .onnx_formats import OnnxFloat, OnnxFormat

if TYPE_CHECKING:
    from onnx import ModelProto


#: What a file with integers for weights costs in ONNX Runtime, whose default keeps their DequantizeLinear.
UNPACKED = (
    "ONNX Runtime unpacks the weights to fp32 in every run, which is slower than fp32; with its session option "
    "session.disable_quant_qdq set to 1 it unpacks them once, when it loads the file, and is as fast."
)
#: What it makes of matrices that the graph multiplies with; seen in ONNX Runtime 1.32.
PRODUCTS = (
    "ONNX Runtime multiplies with {} from the integers themselves, and rounds what they are multiplied with to 8 bits."
)


class OnnxHalf(OnnxFormat):
    """Everything between input and output in fp16."""

    name, title, suffix = "onnx-fp16", "ONNX fp16", ".fp16.onnx"
    summary = "fp16 weights and operators, for devices that compute in fp16; images and logits stay fp32"

    def remarks(self, source: Source) -> Iterable[str]:
        """Say what is rounded, and where it is not faster."""
        compressed = source.compressed
        return chain(
            [
                "ONNX Runtime's CPU kernels widen fp16 to fp32, and fuse less: half the size, and in deep models two "
                "or three times slower than fp32 on this machine."
            ],
            codes_widen(compressed, "fp16"),
            tables_widen(compressed, "fp16"),
            zeros_stay(compressed, "ONNX"),
        )

    def model(self, source: Source) -> ModelProto:
        """Return the fp32 graph, BatchNorm folded, with all its floats in 16 bits."""
        from onnxruntime.transformers.float16 import convert_float_to_float16

        model = OnnxFloat().model(source)
        fold_norms(model)
        # 16 bits have too few digits to find the step of a grid that a value falls on
        rounding = [node.name for node in model.graph.node if re.match(rf"{GRID}\d+\.", node.name)]
        try:
            half: ModelProto = convert_float_to_float16(model, keep_io_types=True, node_block_list=rounding)
        except ValueError as error:
            raise FormatError(f"'{source.stem}' cannot be written in fp16 ({error}): export it in fp32.") from error
        return half


class OnnxWeights(OnnxFormat):
    """Weights as integers of few bits with a DequantizeLinear; kernels run in fp32."""

    bits: ClassVar[int]

    def complete(self, recipe: Recipe, calibrated: bool = True) -> tuple[Recipe, tuple[str, ...]]:
        """Quantize the weights where no step of the recipe makes them small enough.

        Where there are images, what rounding one weight does to a layer's outputs is made good by the others (GPTQ):
        in 2 bits nothing but that leaves a model to speak of.
        """
        if any(
            step.technique == "quantize" and getattr(step.settings, "bits", 32) <= self.bits for step in recipe.steps
        ):
            return recipe, ()
        step = f"quantize: {{bits: {self.bits}, range: mse{', rounding: gptq' if calibrated else ''}}}"
        added = Recipe.parse(f"- {step}")
        said = f"The recipe leaves no weights of {self.bits} bits or fewer: added '{step}'."
        return Recipe((*recipe.steps, *added.steps)), (said,)

    def remarks(self, source: Source) -> Iterator[str]:
        """Say what stays larger, and that nothing is faster."""
        yield UNPACKED
        if matrices := sorted(source.graph.transposed & source.compressed.codes.keys()):
            yield PRODUCTS.format(some(matrices))
        yield from self.unheld(source.compressed)

    def unheld(self, compressed: CompressedModel) -> Iterator[str]:
        """Say what stays larger."""
        wider = [name for name, codes in compressed.codes.items() if width(codes.bits) > self.bits]
        if wider:
            yield f"{some(wider)} have more bits in the recipe, and keep them."
        yield from activations_simulated(compressed)
        yield from tables_widen(compressed, kept=compressed.tables)
        yield from zeros_stay(compressed, "ONNX")

    def model(self, source: Source) -> ModelProto:
        """Return the graph with integers for weights."""
        return weights_model(source)


class OnnxInt4(OnnxWeights):
    """Weights in 4 bits."""

    name, title, suffix, bits = "onnx-int4", "ONNX int4 weights", ".int4.onnx", 4
    summary = "4-bit weights (opset 21), unpacked to fp32 to run: an eighth of the size, not faster"


class OnnxInt2(OnnxWeights):
    """Weights in 2 bits."""

    name, title, suffix, bits = "onnx-int2", "ONNX int2 weights", ".int2.onnx", 2
    summary = "2-bit weights (opset 25), unpacked to fp32 to run: a sixteenth of the size, not faster"


def weights_model(source: Source) -> ModelProto:
    """Return the graph whose weights are the recipe's codes, in as few bits as ONNX has for them."""
    compressed = source.compressed
    stored = compressed.tensors, compressed.integers, compressed.halves
    return onnx_file(source.graph, *stored, compressed.grids, compressed.tables)
