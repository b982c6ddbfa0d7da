"""ONNX files, run by ONNX Runtime: what they share, and the plain one in fp32."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from workbench.run.runner import OnnxRunner, Runner

from .format import Format, FormatError, Source
from .limits import floats_in
from .normalizing import note_in

if TYPE_CHECKING:
    from onnx import ModelProto


class OnnxFormat(Format):
    """What all ONNX files share."""

    runtime = distribution = "onnxruntime"

    @abstractmethod
    def model(self, source: Source) -> ModelProto:
        """Return the model to write."""

    def write(self, source: Source, folder: Path) -> tuple[Path, ...]:
        """Write one file."""
        path = self.path(source, folder)
        model = self.model(source)
        note_in(model, source.normalization)
        path.write_bytes(model.SerializeToString(deterministic=True))
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

    def remarks(self, source: Source) -> Iterable[str]:
        """Say what is widened."""
        return floats_in(source.compressed, "ONNX")

    def model(self, source: Source) -> ModelProto:
        """Return the graph with the compressed tensors."""
        compressed = source.compressed
        return source.graph.build(compressed.tensors, compressed.grids)
