"""PyTorch's compiler: ``torch.compile`` when the file is opened, or the AOTInductor package it wrote before."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from .base import Engine, EngineError, Feeds, Input, KernelRow, Runtime
from .pytorch import Callee, TorchEngine


class CompiledEngine(TorchEngine):
    """A module that ``torch.compile`` compiles for the shape of its first run, which takes the seconds."""

    def __init__(self, path: Path, threads: int) -> None:
        if shutil.which("g++") is None and shutil.which("clang++") is None:
            raise EngineError("torch.compile needs a C++ compiler, and none was found: apt install g++")
        import torch

        super().__init__(path, threads)
        self.version += " torch.compile"
        self._module = torch.compile(self._module)


class PackageEngine(Callee):
    """An AOTInductor package: machine code for the machine it was written on, and none of its operators' times."""

    def __init__(self, path: Path, threads: int) -> None:
        import torch
        from torch._inductor import aoti_load_package

        torch.set_num_threads(threads)
        self.version = f"torch {torch.__version__.split('+')[0]} AOTInductor"
        try:
            self._module = aoti_load_package(str(path))
        except Exception as error:  # RuntimeError and what its archive reader raises
            raise EngineError(f"'{path}' is no package of AOTInductor that torch {torch.__version__} loads.") from error
        self.inputs: tuple[Input, ...] = (Input("images", (), "float32"),)  # the package does not tell its shapes

    def kernels(self, feeds: Feeds) -> Sequence[KernelRow]:
        """Return none."""
        return ()


def _compile(path: Path, threads: int) -> Engine:
    return CompiledEngine(path, threads)


def _open(path: Path, threads: int) -> Engine:
    return PackageEngine(path, threads)


COMPILED = Runtime("torch-compile", (".pt2", ".wbz"), "torch", "pip install torch", _compile)
AOT_INDUCTOR = Runtime("aot-inductor", (".aot.pt2", ".pt2"), "torch._inductor.package", "pip install torch", _open)
