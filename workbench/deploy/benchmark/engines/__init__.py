"""The runtimes that the harness knows. A new one is a file here and its entry in ``RUNTIMES``."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from .base import Engine, EngineError, Feeds, Input, KernelRow, Runtime, make_feeds
from .compiled import AOT_INDUCTOR, COMPILED
from .executorch import EXECUTORCH
from .litert import LITERT
from .openvino import OPENVINO
from .ort import ONNXRUNTIME, UNFUSED
from .pytorch import TORCH
from .tvm import TVM

__all__ = [
    "RUNTIMES", "Engine", "EngineError", "Feeds", "Input", "KernelRow", "Runtime", "find_runtime", "make_feeds",
]  # fmt: skip

#: Of several that read a file, the one with the longest ending is meant where none is named, or the first of these.
_ALL = (ONNXRUNTIME, OPENVINO, TORCH, COMPILED, AOT_INDUCTOR, EXECUTORCH, LITERT, TVM, UNFUSED)
RUNTIMES = {runtime.name: runtime for runtime in _ALL}


def find_runtime(path: Path, name: str | None = None) -> Runtime:
    """Return the runtime ``name``, or the first that reads such a file.

    Raises:
        EngineError: no such file or runtime, a runtime that doesn't read it, or one that isn't installed.
    """
    if not path.is_file():
        raise EngineError(f"There is no file '{path}'.")
    fits = {runtime.name: _fit(path, runtime) for runtime in RUNTIMES.values()}
    readers = sorted((RUNTIMES[one] for one, fit in fits.items() if fit), key=lambda runtime: -fits[runtime.name])
    if name is None and not readers:
        endings = sorted({one for runtime in RUNTIMES.values() for one in runtime.endings})
        raise EngineError(f"No runtime here reads '{path.name}': it should end in one of {', '.join(endings)}.")
    if name is not None and name not in RUNTIMES:
        raise EngineError(f"There is no runtime '{name}'; there is {', '.join(RUNTIMES)}.")
    runtime = readers[0] if name is None else RUNTIMES[name]
    if runtime not in readers:
        raise EngineError(f"{runtime.name} reads {' and '.join(runtime.endings)}, not '{path.name}'.")
    if find_spec(runtime.module.partition(".")[0]) is None:
        raise EngineError(f"{runtime.name} is not installed: {runtime.install}")
    return runtime


def _fit(path: Path, runtime: Runtime) -> int:
    """Return the length of the longest ending of ``path`` that the runtime reads, 0 where it reads none."""
    return max((len(ending) for ending in runtime.endings if path.name.lower().endswith(ending)), default=0)
