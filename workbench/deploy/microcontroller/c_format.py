"""C99 for microcontrollers as an export format."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from torch import nn

from workbench.deploy.format import Format, Source
from workbench.deploy.limits import zeros_stay
from workbench.deploy.onnx_int8 import int8_model, int8_remarks, with_int8
from workbench.errors import WorkbenchError
from workbench.recipe import Recipe

from .compiled import CompiledModel, compiler
from .footprint import fits, footprint
from .lower import lower
from .program import Program
from .source import write_source


class CSource(Format):
    """The int8 ONNX file's grids and weights as C source, with kernels that need no library."""

    name, title, suffix = "c", "C for microcontrollers", ".c"
    summary = "C99 source with 8-bit weights and integer kernels; memory known beforehand"
    runtime = "c99"
    distribution = "a C compiler"

    @property
    def install(self) -> str:
        """How Debian and Ubuntu install a compiler; other systems bring one under the same name."""
        return "apt install gcc"

    @property
    def installed(self) -> bool:
        """Whether a C compiler is here."""
        try:
            return bool(compiler())
        except WorkbenchError:
            return False

    def complete(self, recipe: Recipe, calibrated: bool = True) -> tuple[Recipe, tuple[str, ...]]:
        """Add 8-bit weights and activations where the recipe has no quantized activations."""
        return with_int8(recipe)

    def remarks(self, source: Source) -> Iterator[str]:
        """Say what it takes, where it fits, and what is stored dense."""
        program = self._program(source)
        needed, verdicts = footprint(program), fits(program)
        good = [fit.board.name for fit in verdicts if fit.fits]
        yield f"Needs {needed.flash / 1024:.0f} kB of flash and {needed.ram / 1024:.1f} kB of RAM on a Cortex-M."
        yield f"Fits on {len(good)} of {len(verdicts)} boards{': ' if good else ''}{', '.join(good)}."
        yield "Opening it compiles it; its time here says nothing of a microcontroller's."
        yield from int8_remarks(source)
        yield from zeros_stay(source.compressed, "C source")

    def write(self, source: Source, folder: Path) -> tuple[Path, ...]:
        """Write the model's source and header, and the kernels."""
        return write_source(self._program(source), folder, source.stem, source.normalization)

    def open(self, path: Path, threads: int | None = None, architecture: nn.Module | None = None) -> CompiledModel:
        """Compile it for this machine."""
        return CompiledModel(path)

    def versioned_runtime(self) -> str:
        """Return the compiler's name and version."""
        told = subprocess.run([compiler(), "--version"], capture_output=True, text=True, check=False).stdout
        first = re.sub(r" \(.*\)", "", next(iter(told.splitlines()), "a C compiler"))
        return f"c99 ({first})"

    def _program(self, source: Source) -> Program:
        return lower(int8_model(source))
