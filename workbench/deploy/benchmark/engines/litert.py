"""LiteRT (TFLite) on the CPU, with XNNPACK."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from .base import Engine, EngineError, Feeds, Input, KernelRow, Runtime


class LiteRtEngine:
    """A ``.tflite`` file in the interpreter, which tells nothing of its operators' times."""

    def __init__(self, path: Path, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.version = f"litert {version('ai-edge-litert')}"
        try:
            self._interpreter = Interpreter(str(path), num_threads=threads)
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0].rstrip(".")[:300]
            raise EngineError(f"'{path}' is no model that LiteRT loads: {reason}.") from error
        self._taken = self._interpreter.get_input_details()
        self._given = self._interpreter.get_output_details()
        self.inputs = tuple(
            Input(entry["name"], tuple(map(int, entry["shape"])), np.dtype(entry["dtype"]).name)
            for entry in self._taken
        )

    def bind(self, feeds: Feeds) -> Callable[[], Any]:
        """Return what copies the inputs in, runs the model once and copies the outputs out."""
        pairs = [(entry["index"], feeds[entry["name"]]) for entry in self._taken]
        results = [entry["index"] for entry in self._given]

        def run() -> Any:
            for place, value in pairs:
                self._interpreter.set_tensor(place, value)
            self._interpreter.invoke()
            return [self._interpreter.get_tensor(place) for place in results]

        return run

    def kernels(self, feeds: Feeds) -> Sequence[KernelRow]:
        """Return none."""
        return ()


def _open(path: Path, threads: int) -> Engine:
    return LiteRtEngine(path, threads)


LITERT = Runtime(
    "litert", (".tflite",), "ai_edge_litert.interpreter", "pip install 'compression-workbench[litert]'", _open
)
