"""The runtimes that the harness knows. A new one is a file here and its entry in ``RUNTIMES``."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from .base import Engine, EngineError, Feeds, Input, KernelRow, Runtime, make_feeds
from .openvino import OPENVINO
from .ort import ONNXRUNTIME, UNFUSED
from .pytorch import TORCH

__all__ = [
    "RUNTIMES", "Engine", "EngineError", "Feeds", "Input", "KernelRow", "Runtime", "find_runtime", "make_feeds",
]  # fmt: skip

#: Of several that read a file, the first is the one meant where none is named.
RUNTIMES = {runtime.name: runtime for runtime in (ONNXRUNTIME, OPENVINO, TORCH, UNFUSED)}


def find_runtime(path: Path, name: str | None = None) -> Runtime:
    """Return the runtime ``name``, or the first that reads such a file.

    Raises:
        EngineError: no such file or runtime, a runtime that doesn't read it, or one that isn't installed.
    """
    if not path.is_file():
        raise EngineError(f"There is no file '{path}'.")
    ending = path.suffix.lower()
    readers = [runtime for runtime in RUNTIMES.values() if ending in runtime.endings]
    if name is None and not readers:
        endings = sorted({one for runtime in RUNTIMES.values() for one in runtime.endings})
        raise EngineError(f"No runtime here reads '{path.name}': it should end in one of {', '.join(endings)}.")
    if name is not None and name not in RUNTIMES:
        raise EngineError(f"There is no runtime '{name}'; there is {', '.join(RUNTIMES)}.")
    runtime = readers[0] if name is None else RUNTIMES[name]
    if runtime not in readers:
        raise EngineError(f"{runtime.name} reads {' and '.join(runtime.endings)}, not '{path.name}'.")
    if find_spec(runtime.module) is None:
        raise EngineError(f"{runtime.name} is not installed: {runtime.install}")
    return runtime
