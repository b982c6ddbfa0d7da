"""ExecuTorch's ``.pte`` for phones and other devices, lowered to XNNPACK and run by its Python runtime."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from workbench.recipe import Recipe
from workbench.run.runner import Runner

from .calling import CallRunner
from .format import Format, FormatError, Source
from .limits import floats_in, zeros_stay
from .onnx_int8 import with_int8
from .torch_program import export_program, refusal

#: Images by which XNNPACK's quantizer finds the ranges.
_IMAGES = 256


class ExecuTorch(Format):
    """fp32, by XNNPACK's kernels."""

    name, title, suffix = "executorch", "ExecuTorch fp32", ".pte"
    summary = "program for phones, lowered to XNNPACK's fp32 kernels, one image a run"
    runtime = distribution = extra = "executorch"
    modules = ("executorch",)

    def remarks(self, source: Source) -> Iterable[str]:
        """Say what is widened."""
        return floats_in(source.compressed, "ExecuTorch")

    def program(self, source: Source) -> torch.export.ExportedProgram:
        """Return the program to lower."""
        return export_program(source, 1)

    def write(self, source: Source, folder: Path) -> tuple[Path, ...]:
        """Lower the traced program and write it."""
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        program, path = self.program(source), self.path(source, folder)
        logging.disable(logging.WARNING)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch()
        except Exception as error:  # its passes raise whatever they meet
            raise refusal("ExecuTorch", "lower", source, _first_line(error), program) from error
        finally:
            logging.disable(logging.NOTSET)
        path.write_bytes(lowered.buffer)
        return (path,)

    def open(self, path: Path, threads: int | None = None, architecture: nn.Module | None = None) -> Runner:
        """Load it into ExecuTorch's runtime, which chooses its threads itself unless their number is given.

        They are of the whole process: no program that was opened earlier may be run afterwards with another number.
        """
        from executorch.runtime import Runtime

        if threads is not None:
            from executorch.extension.pybindings import portable_lib

            portable_lib._unsafe_reset_threadpool(threads)
        program = Runtime.get().load_program(path)
        method = program.load_method("forward")
        if method is None:
            raise FormatError(f"ExecuTorch finds no method 'forward' in {path.name}.")

        def call(images: Tensor) -> Any:
            return method.execute((images.contiguous(),))[0].numpy()

        call.program = program  # type: ignore[attr-defined]  # the method's memory lives in it
        return CallRunner(self.runtime, call, one_by_one=True)


class ExecuTorchInt8(ExecuTorch):
    """int8, by XNNPACK's own quantizer."""

    name, title, suffix = "executorch-int8", "ExecuTorch int8", ".int8.pte"
    summary = "program for phones with 8-bit weights and activations in XNNPACK's integer kernels, one image a run"

    def complete(self, recipe: Recipe, calibrated: bool = True) -> tuple[Recipe, tuple[str, ...]]:
        """Add 8-bit weights and activations where the recipe has no quantized activations."""
        return with_int8(recipe)

    def remarks(self, source: Source) -> Iterator[str]:
        """Say whose grids are in the file."""
        yield f"XNNPACK's quantizer chose the grids anew, from {_IMAGES} calibration images."
        yield from zeros_stay(source.compressed, "ExecuTorch")

    def program(self, source: Source) -> torch.export.ExportedProgram:
        """Return the program with XNNPACK's grids in it."""
        from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
            XNNPACKQuantizer,
            get_symmetric_quantization_config,
        )
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

        if source.calibration is None:
            raise FormatError("An int8 file needs calibration images, and these data have none: give a train split.")
        quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
        traced = export_program(source, 1, source.compressed.fresh_module(inputs=False)).module()
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            prepared = prepare_pt2e(traced, quantizer)
            for images in source.calibration[:_IMAGES].split(1):
                prepared(images)
            return export_program(source, 1, convert_pt2e(prepared))


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
