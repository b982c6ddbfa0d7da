"""ONNX files, run by ONNX Runtime: fp32, fp16, and int8 on integer kernels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from workbench.latency import INT8_IMAGES
from workbench.recipe import Recipe
from workbench.run.runner import OnnxRunner, Runner

from .format import Format, FormatError, Source
from .limits import codes_widen, tables_widen, zeros_stay

if TYPE_CHECKING:
    from onnx import ModelProto

INT8 = "- quantize: {bits: 8, scheme: symmetric, activations: {bits: 8}}"


class OnnxFormat(Format):
    """What all ONNX files share."""

    runtime = distribution = "onnxruntime"

    @abstractmethod
    def model(self, source: Source) -> ModelProto:
        """Return the model to write."""

    def write(self, source: Source, folder: Path) -> tuple[Path, ...]:
        """Write one file."""
        path = self.path(source, folder)
        path.write_bytes(self.model(source).SerializeToString(deterministic=True))
        return (path,)

    def open(self, path: Path, threads: int | None = None, architecture: nn.Module | None = None) -> Runner:
        """Load it into ONNX Runtime on the CPU."""
        try:
            return OnnxRunner(path.read_bytes(), threads)
        except Exception as error:
            raise FormatError(f"ONNX Runtime cannot open {path.name}: {str(error).splitlines()[0][:200]}") from error


class OnnxFloat(OnnxFormat):
    """Weights in fp32, what enters the layers rounded in float as the recipe says."""

    name, title, suffix = "onnx", "ONNX fp32", ".onnx"
    summary = "fp32 weights and kernels; opens everywhere"

    def remarks(self, source: Source) -> Iterator[str]:
        """Say what is widened."""
        compressed = source.compressed
        if compressed.grids:
            yield "Activations are rounded in float, as PyTorch simulates it: as accurate, and slower than onnx-int8."
        yield from chain(codes_widen(compressed), tables_widen(compressed), zeros_stay(compressed, "ONNX"))

    def model(self, source: Source) -> ModelProto:
        """Return the graph with the compressed tensors."""
        compressed = source.compressed
        return source.graph.factorized(compressed.chains).build(compressed.tensors, compressed.grids)


class OnnxInt8(OnnxFormat):
    """Weights and activations in int8, between QuantizeLinear and DequantizeLinear."""

    name, title, suffix = "onnx-int8", "ONNX int8", ".int8.onnx"
    summary = "8-bit weights and activations between QuantizeLinear and DequantizeLinear; runs on integer kernels"

    def complete(self, recipe: Recipe) -> tuple[Recipe, tuple[str, ...]]:
        """Add 8-bit weights and activations where the recipe has no quantized activations."""
        return with_int8(recipe)

    def remarks(self, source: Source) -> Iterable[str]:
        """Say what is stored dense."""
        return zeros_stay(source.compressed, "ONNX")

    def model(self, source: Source) -> ModelProto:
        """Return the QDQ graph."""
        from workbench.run.qdq import export_int8

        if source.calibration is None:
            raise FormatError(
                "An int8 file needs calibration images, and these data have none: give data with a train split."
            )
        compressed = source.compressed
        graph = source.graph.factorized(compressed.chains)
        return export_int8(graph.build(compressed.tensors), source.calibration[:INT8_IMAGES].numpy(), reduce_range=True)


def with_int8(recipe: Recipe) -> tuple[Recipe, tuple[str, ...]]:
    """Return the recipe with 8-bit weights and activations, and a sentence where they had to be added."""
    quantized = any(getattr(step.settings, "activations", None) is not None for step in recipe.steps)
    if quantized:
        return recipe, ()
    added = Recipe.parse(INT8)
    said = f"Integer kernels need quantized activations, which the recipe does not have: added '{INT8[2:]}'."
    return Recipe((*recipe.steps, *added.steps)), (said,)
