"""ONNX Runtime on the CPU."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from workbench.measure.latency.device import runtime_name
from workbench.measure.latency.measured import LatencyError, open_session
from workbench.measure.latency.profiler import Node, calibrate, read_nodes

from .base import Engine, EngineError, Feeds, Input, KernelRow, Runtime

_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64",
           "tensor(bool)": "bool"}  # fmt: skip
#: The element types of the profiler's shapes, in our words.
_SHORT = {"float": "fp32", "float16": "fp16", "uint8": "int8"}
_RUNS = 20


class OrtEngine:
    """An ``.onnx`` file in a session with the thread count asked for; without ``fused``, the graph as it is."""

    def __init__(self, path: Path, threads: int, fused: bool = True) -> None:
        self.version = runtime_name() + ("" if fused else " without fusion")
        self._path, self._threads, self._fused = path, threads, fused
        try:
            self._session = open_session(str(path), threads, fused=fused)
        except LatencyError as error:
            raise EngineError(f"'{path}' is no model that ONNX Runtime loads: {_reason(error)}") from error
        self.inputs = tuple(
            Input(entry.name, tuple(size if isinstance(size, int) else None for size in entry.shape), _dtype(entry))
            for entry in self._session.get_inputs()
        )

    def bind(self, feeds: Feeds) -> Callable[[], Any]:
        """Return what runs the session once."""
        return lambda: self._session.run(None, feeds)

    def kernels(self, feeds: Feeds) -> Sequence[KernelRow]:
        """Return the nodes of a profiled session, what the profiler adds taken off."""
        with tempfile.TemporaryDirectory() as folder:
            prefix = str(Path(folder) / "profile")
            session = open_session(str(self._path), self._threads, prefix, fused=self._fused)
            for _ in range(_RUNS):
                session.run(None, feeds)
            events = json.loads(Path(session.end_profiling()).read_text())
        cost = calibrate(lambda: True)
        return [
            KernelRow(node.name, node.op, _precision(node), cost.net(node.ns, node.inputs) / 1e6)
            for node in read_nodes(events)
        ]


def _precision(node: Node) -> str:
    # some integer kernels read their output's scale, a float, first
    return "int8" if node.op.startswith("QLinear") else _SHORT.get(node.dtype, node.dtype)


def _dtype(entry: Any) -> str:
    name = str(entry.type)
    return _DTYPES.get(name, name.removeprefix("tensor(").removesuffix(")"))


def _reason(error: Exception) -> str:
    """Return what ONNX Runtime said, without its codes."""
    line = str(error.__cause__ or error).strip().splitlines()[0]
    return line.rsplit(" : ", 1)[-1].rstrip(".")[:300] + "."


def _open(path: Path, threads: int) -> Engine:
    return OrtEngine(path, threads)


def _open_unfused(path: Path, threads: int) -> Engine:
    return OrtEngine(path, threads, fused=False)


ONNXRUNTIME = Runtime("onnxruntime", (".onnx", ".ort"), "onnxruntime", "pip install onnxruntime", _open)
UNFUSED = Runtime("onnxruntime-unfused", (".onnx",), "onnxruntime", "pip install onnxruntime", _open_unfused)
