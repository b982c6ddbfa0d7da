"""ExecuTorch's ``.pte`` programs, run by its Python runtime with whatever they were lowered to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .base import Engine, EngineError, Feeds, Input, KernelRow, Runtime

#: ExecuTorch's numbers of element types (c10's).
_DTYPES = {0: "uint8", 1: "int8", 2: "int16", 3: "int32", 4: "int64", 5: "float16", 6: "float32", 7: "float64",
           11: "bool"}  # fmt: skip


class ExecuTorchEngine:
    """The method ``forward`` of a program; it tells nothing of its operators without a build that traces them."""

    def __init__(self, path: Path, threads: int) -> None:
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Runtime as Library

        self.version = f"executorch {version('executorch')}"
        portable_lib._unsafe_reset_threadpool(threads)
        try:
            self._program = Library.get().load_program(path)  # the method's memory lives in it
            method = self._program.load_method("forward")
        except RuntimeError as error:
            raise EngineError(f"'{path}' is no program that ExecuTorch loads: {_first_line(error)}") from error
        if method is None:
            raise EngineError(f"'{path}' has no method 'forward'.")
        self._method = method
        tensors = [method.metadata.input_tensor_meta(place) for place in range(method.metadata.num_inputs())]
        self.inputs = tuple(
            Input(f"input{place}", tuple(tensor.sizes()), _DTYPES.get(tensor.dtype(), "float32"))
            for place, tensor in enumerate(tensors)
        )

    def bind(self, feeds: Feeds) -> Callable[[], Any]:
        """Return what runs the method once."""
        import torch

        values = [torch.from_numpy(value) for value in feeds.values()]
        return lambda: self._method.execute(values)

    def kernels(self, feeds: Feeds) -> Sequence[KernelRow]:
        """Return none."""
        return ()


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".")[:300] + "."


def _open(path: Path, threads: int) -> Engine:
    return ExecuTorchEngine(path, threads)


EXECUTORCH = Runtime(
    "executorch", (".pte",), "executorch.runtime", "pip install 'compression-workbench[executorch]'", _open
)
