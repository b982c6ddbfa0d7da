"""OpenVINO on the CPU; it reads ONNX files too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from .base import Engine, EngineError, Feeds, Input, KernelRow, Runtime

_RUNS = 20


class OpenVinoEngine:
    """An OpenVINO IR (``.xml`` beside its ``.bin``) or ONNX file, compiled for latency."""

    def __init__(self, path: Path, threads: int) -> None:
        import openvino

        self.version = f"openvino {version('openvino').split('-')[0]}"
        self._core, self._threads = openvino.Core(), threads
        try:
            self._model = self._core.read_model(path)
            compiled = self._compile({})
        except RuntimeError as error:
            raise EngineError(f"'{path}' is no model that OpenVINO loads: {_first_line(error)}") from error
        self._request = compiled.create_infer_request()
        self.inputs = tuple(_input(entry) for entry in self._model.inputs)

    def _compile(self, more: dict[str, Any]) -> Any:
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": self._threads, **more}
        return self._core.compile_model(self._model, "CPU", settings)

    def bind(self, feeds: Feeds) -> Callable[[], Any]:
        """Return what runs the request once; results are shared with the runtime, not copied."""
        values = list(feeds.values())
        return lambda: self._request.infer(values, share_inputs=True, share_outputs=True)

    def kernels(self, feeds: Feeds) -> Sequence[KernelRow]:
        """Return the runtime's performance counters, medians of several runs; what was optimized away is left out."""
        request = self._compile({"PERF_COUNT": True}).create_infer_request()
        times: dict[str, list[float]] = {}
        for place in range(_RUNS + 1):
            request.infer(list(feeds.values()))
            if place:  # the first run also lays memory out
                for info in request.get_profiling_info():
                    times.setdefault(info.node_name, []).append(info.real_time.total_seconds() * 1e3)
        ms = {name: float(np.median(found)) for name, found in times.items()}
        return [
            KernelRow(info.node_name, info.node_type, _dtype(info.exec_type), ms[info.node_name], info.exec_type)
            for info in request.get_profiling_info()
            if ms[info.node_name] > 0
        ]


def _input(entry: Any) -> Input:
    shape = tuple(size.get_length() if size.is_static else None for size in entry.partial_shape)
    return Input(entry.any_name, shape, entry.element_type.to_dtype().name)


def _dtype(implementation: str) -> str:
    """Read the number type off the kernel's name, such as ``brgconv_avx2_I8``."""
    ending = implementation.rsplit("_", 1)[-1].lower()
    return {"i8": "int8", "u8": "int8", "f32": "fp32", "f16": "fp16", "bf16": "bf16"}.get(ending, ending)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".")[:300] + "."


def _open(path: Path, threads: int) -> Engine:
    return OpenVinoEngine(path, threads)


OPENVINO = Runtime("openvino", (".xml", ".onnx"), "openvino", "pip install openvino", _open)
