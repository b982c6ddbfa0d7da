"""AOTInductor: PyTorch's compiler, ahead of time, into a package that needs PyTorch's runtime but no Python."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from workbench.run.runner import Runner

from .benchmark.engines import KernelRow
from .calling import CallRunner
from .format import Format, FormatError, MissingRuntime, Source
from .limits import floats_in
from .torch_program import export_program


class AotInductor(Format):
    """Compiled for the machine it is written on."""

    name, title, suffix = "aot-inductor", "AOTInductor", ".aot.pt2"
    summary = "package that PyTorch compiles for this CPU; takes half a minute, needs a C++ compiler"
    runtime = distribution = "torch"
    varies = "the C++ compiler writes the names of its temporary folders into it"

    @property
    def installed(self) -> bool:
        """Whether a C++ compiler is here."""
        return shutil.which("g++") is not None or shutil.which("clang++") is not None

    @property
    def install(self) -> str:
        """How Debian and Ubuntu install a compiler."""
        return "apt install g++"

    def require(self) -> None:
        """Raise ``MissingRuntime`` where there is no C++ compiler."""
        if not self.installed:
            raise MissingRuntime(f"Format '{self.name}' needs a C++ compiler, and none was found: {self.install}.")

    def remarks(self, source: Source) -> Iterable[str]:
        """Say what is widened."""
        return floats_in(source.compressed, "the package")

    def write(self, source: Source, folder: Path) -> tuple[Path, ...]:
        """Trace and compile."""
        from torch._inductor import aoti_compile_and_package

        path = self.path(source, folder)
        program = export_program(source)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                aoti_compile_and_package(program, package_path=str(path))
        except Exception as error:  # the compiler's own, and the C++ compiler's
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise FormatError(f"PyTorch cannot compile '{source.stem}' ({reason}): export it as ONNX.") from error
        return (path,)

    def kernels(self, path: Path, image: Tensor) -> tuple[KernelRow, ...]:
        """Return none: the package holds functions of its own."""
        return ()

    def open(self, path: Path, threads: int | None = None, architecture: nn.Module | None = None) -> Runner:
        """Load the package."""
        from torch._inductor import aoti_load_package

        model = aoti_load_package(str(path))

        def call(images: torch.Tensor) -> object:
            return model(images).detach().numpy()

        return CallRunner("torch", call)  # type: ignore[arg-type]
