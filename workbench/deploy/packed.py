"""The workbench's own packed file, opened again by ``load_compressed`` and run in PyTorch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from torch import Tensor, nn

from workbench.deploy.benchmark.engines import KernelRow
from workbench.errors import WorkbenchError
from workbench.reopening import load_compressed
from workbench.run.runner import Runner, TorchRunner

from .format import Format, Source


class Packed(Format):
    """Every tensor in its smallest encoding."""

    name, title, suffix = "wbz", "Packed file", ".wbz"
    summary = "every tensor in its smallest encoding, zeros and entropy included; opens in this workbench only"
    runtime = distribution = "torch"

    def remarks(self, source: Source) -> Iterable[str]:
        """The archive holds all of a recipe."""
        return ()

    def write(self, source: Source, folder: Path) -> tuple[Path, ...]:
        """Write the archive."""
        return (source.compressed.save(self.path(source, folder)),)

    def kernels(self, path: Path, image: Tensor) -> tuple[KernelRow, ...]:
        """Return PyTorch's operators; none of a model whose code the harness does not know, since no file holds it."""
        try:
            return super().kernels(path, image)
        except WorkbenchError:
            return ()

    def open(self, path: Path, threads: int | None = None, architecture: nn.Module | None = None) -> Runner:
        """Load the archive; ``architecture`` is needed for a model that is not the zoo's."""
        return TorchRunner(load_compressed(path, architecture).module)
