"""The seam of exports: what a format is given, and what it has to do.

A new format is one file with a class that has ``write`` and ``open``, and its entry in ``formats.FORMATS``.
``write`` puts the model into a folder; ``open`` loads what was written into the runtime that will run it and
returns a ``Runner``, by which the export is then judged. What a format cannot hold is said by ``remarks``.
"""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from workbench.compressed import CompressedModel
from workbench.data.dataset import Normalization
from workbench.deploy.benchmark.engines import RUNTIMES, KernelRow
from workbench.errors import WorkbenchError
from workbench.graphs import attentions_of, export_edited, rebuilding, resizing
from workbench.models.edits import Edit, Slice
from workbench.recipe import Recipe
from workbench.run.onnx_graph import OnnxGraph
from workbench.run.runner import Runner
from workbench.subject import Subject


class FormatError(WorkbenchError):
    """A model that a format cannot hold, or a file that its runtime cannot open."""


class MissingRuntime(FormatError):
    """The format's library is not installed here."""


@dataclass(frozen=True, eq=False)
class Source:
    """What a format writes: a compressed model under a file name, and images to calibrate by.

    ``calibration`` holds normalised float32 images ``(n, C, H, W)`` of all classes; None where the data have
    none. ``normalization`` is what was done to them. ``exported`` is the model's graph where it is known.
    """

    stem: str
    compressed: CompressedModel
    subject: Subject
    calibration: Tensor | None = None
    normalization: Normalization | None = None
    exported: OnnxGraph | None = None

    @cached_property
    def graph(self) -> OnnxGraph:
        """The compressed model's ONNX graph, without its tensors; raises ``ExportError`` where there is none."""
        graph = self.exported or self._export(rebuilding(self.compressed, attentions_of(self.subject.model.module)))
        if graph.traced or not any(isinstance(edit, Slice) for edit in self.compressed.edits):
            return graph
        return self._export(resizing(self.compressed))

    def _export(self, edits: tuple[Edit, ...]) -> OnnxGraph:
        graph = export_edited(self.subject.model.module, edits, self.subject.image_shape)
        return graph.factorized(self.compressed.chains)

    @cached_property
    def module(self) -> nn.Module:
        """The compressed model in PyTorch, what enters its layers rounded as the recipe says."""
        return self.compressed.fresh_module()


class Format(ABC):
    """One kind of file, and the runtime that runs it."""

    name: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    suffix: ClassVar[str]
    #: What runs the file, and the distribution whose version is told.
    runtime: ClassVar[str]
    distribution: ClassVar[str]
    #: Modules that have to be there, and the extra of this project that brings them ("" where always there).
    modules: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    #: Why the same model and recipe give other bytes when written again; empty where they give the same.
    varies: ClassVar[str] = ""
    #: Whether its runtime runs on a machine like this one; the others are written, not judged.
    runs_here: ClassVar[bool] = True

    @property
    def install(self) -> str:
        """The line that installs what the format needs, empty where nothing is missing by default."""
        return f"pip install 'compression-workbench[{self.extra}]'" if self.extra else ""

    @property
    def installed(self) -> bool:
        """Whether what the format needs is here."""
        return all(importlib.util.find_spec(module) is not None for module in self.modules)

    @property
    def reproducible(self) -> bool:
        """Whether the same model and recipe give the same bytes."""
        return not self.varies

    def require(self) -> None:
        """Raise ``MissingRuntime`` with the install line unless the format can be written and run here."""
        if not self.installed:
            raise MissingRuntime(
                f"Format '{self.name}' needs {self.distribution}, which is not installed: {self.install}."
            )

    def complete(self, recipe: Recipe, calibrated: bool = True) -> tuple[Recipe, tuple[str, ...]]:
        """Return the recipe with the steps that the format cannot do without, and sentences that say so.

        ``calibrated`` tells whether there are images for them to calibrate by.
        """
        return recipe, ()

    @abstractmethod
    def remarks(self, source: Source) -> Iterable[str]:
        """Yield sentences on what the file does not hold as the recipe has it."""

    @abstractmethod
    def write(self, source: Source, folder: Path) -> tuple[Path, ...]:
        """Write the files, the one that ``open`` takes first; raises ``FormatError``."""

    @abstractmethod
    def open(self, path: Path, threads: int | None = None, architecture: nn.Module | None = None) -> Runner:
        """Load a written file into its runtime; raises ``FormatError``.

        ``architecture`` is the uncompressed module, for formats that hold no code.
        """

    def kernels(self, path: Path, image: Tensor) -> tuple[KernelRow, ...]:
        """Return what the runtime really runs for one image ``(1, C, H, W)``; empty where it doesn't tell."""
        runtime = RUNTIMES.get(self.runtime)
        if runtime is None:
            return ()
        engine = runtime.open(path, 1)
        return tuple(engine.kernels({engine.inputs[0].name: image.numpy()}))

    def path(self, source: Source, folder: Path) -> Path:
        """Return where ``source`` is written in ``folder``."""
        return folder / f"{source.stem}{self.suffix}"

    def to_json(self) -> dict[str, Any]:
        """Return what ``workbench formats --json`` lists."""
        return {
            "name": self.name,
            "title": self.title,
            "summary": self.summary,
            "suffix": self.suffix,
            "runtime": self.runtime,
            "installed": self.installed,
            "install": self.install,
            "reproducible": self.reproducible,
            "varies": self.varies,
            "runs_here": self.runs_here,
        }

    def versioned_runtime(self) -> str:
        """Return the runtime's name with its version."""
        try:
            return f"{self.runtime} {version(self.distribution)}"
        except PackageNotFoundError:
            return self.runtime
