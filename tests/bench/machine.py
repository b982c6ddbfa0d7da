"""What a machine is called in the benches' output and in their records."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

LIBRARIES = ("torch", "onnxruntime", "numpy", "voila", "jupyterlab", "anywidget")


def cpu_name() -> str:
    """Return the processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def machine_name() -> str:
    """Return the processor and how many cores there are."""
    return f"{cpu_name()}, {os.cpu_count()} cores"


def versions(libraries: tuple[str, ...] = LIBRARIES) -> dict[str, str]:
    """Return the versions of Python and of ``libraries``."""
    return {"python": platform.python_version()} | {name: version(name) for name in libraries}
