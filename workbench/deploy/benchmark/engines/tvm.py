"""Libraries that Apache TVM compiled, run by its Relax virtual machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .base import Engine, EngineError, Feeds, Input, KernelRow, Runtime


class TvmEngine:
    """The function ``main`` of a ``.so``, which does not tell the shape it was compiled for."""

    def __init__(self, path: Path, threads: int) -> None:
        os.environ["TVM_NUM_THREADS"] = str(threads)  # read when TVM first makes its threads
        import tvm

        self.version = f"tvm {version('apache-tvm')}"
        try:
            self._library = tvm.runtime.load_module(str(path))
            self._machine = self._open()
        except Exception as error:  # tvm.error.* are built at run time
            raise EngineError(f"'{path}' is no library that TVM loads: {_last_line(error)}") from error
        self.inputs: tuple[Input, ...] = (Input("images", (), "float32"),)

    def _open(self, **more: Any) -> Any:
        import tvm
        from tvm import relax

        return relax.VirtualMachine(self._library, tvm.cpu(), **more)

    def bind(self, feeds: Feeds) -> Callable[[], Any]:
        """Return what runs the function once, on inputs in TVM's own memory."""
        import tvm

        values, run = [tvm.runtime.tensor(value) for value in feeds.values()], self._machine["main"]
        return lambda: run(*values)

    def kernels(self, feeds: Feeds) -> Sequence[KernelRow]:
        """Return none."""
        return ()


def _last_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[-1].rstrip(".")[:300] + "."


def _start(path: Path, threads: int) -> Engine:
    return TvmEngine(path, threads)


TVM = Runtime("tvm", (".tvm.so", ".so"), "tvm.relax", "pip install 'compression-workbench[tvm]'", _start)
