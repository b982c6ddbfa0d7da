"""``torch.export``: the graph and its weights in a ``.pt2`` file that needs none of the model's code."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from workbench.run.blame import blamed
from workbench.run.runner import Runner, TorchRunner
from workbench.symbolic import tracing

from .format import Format, FormatError, Source
from .limits import floats_in


class TorchProgram(Format):
    """A traced graph of PyTorch's operators."""

    name, title, suffix = "torch", "torch.export", ".pt2"
    summary = "the graph of PyTorch's own operators with fp32 weights; runs without the model's code"
    runtime = distribution = "torch"

    def remarks(self, source: Source) -> Iterable[str]:
        """Say what is widened."""
        return floats_in(source.compressed, "the file")

    def write(self, source: Source, folder: Path) -> tuple[Path, ...]:
        """Trace the module for any batch size and save it."""
        path = self.path(source, folder)
        torch.export.save(export_program(source), path)
        return (path,)

    def open(self, path: Path, threads: int | None = None, architecture: nn.Module | None = None) -> Runner:
        """Load the graph."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return TorchRunner(torch.export.load(path).module())


def refusal(runtime: str, what: str, source: Source, reason: str, program: torch.export.ExportedProgram) -> FormatError:
    """Return that ``runtime`` cannot ``what`` the source, with the layer of the operator that ``reason`` names."""
    operator = blamed(program, reason)
    if operator:
        return FormatError(
            f"{runtime} has no operator {operator}, which '{source.stem}' uses ({reason}): replace it there, or export "
            "as onnx or torch."
        )
    return FormatError(f"{runtime} cannot {what} '{source.stem}' ({reason}): export it as onnx or torch.")


def export_program(
    source: Source, batch: int | None = None, module: nn.Module | None = None
) -> torch.export.ExportedProgram:
    """Return the traced program, for any batch size unless ``batch`` fixes one.

    It is of ``module``, which by default is the compressed model with what enters its layers rounded.

    Raises ``FormatError`` where ``torch.export`` cannot trace the model, with the reason it gives.
    """
    example = torch.zeros(batch or 2, *source.subject.image_shape)
    shapes = None if batch else ({0: torch.export.Dim("batch", min=1, max=4096)},)
    try:
        with warnings.catch_warnings(), torch.no_grad(), tracing():
            warnings.simplefilter("ignore")
            return torch.export.export(source.module if module is None else module, (example,), dynamic_shapes=shapes)
    except Exception as error:  # whatever the user's code raises under tracing
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise FormatError(
            f"torch.export cannot trace '{source.stem}' ({reason}): export it as ONNX, or make its forward free of "
            "branches on values."
        ) from error
