"""This machine as a place where latency is measured; ``measure.devices`` has those that are only described."""

from __future__ import annotations

import functools
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Device:
    """A place where models run. ``kind``: "this machine" is measured, "described" is computed."""

    name: str
    kind: Literal["this machine", "described"]
    runtime: str
    threads: int = 1


def this_machine(threads: int = 1) -> Device:
    """Return the device that measures."""
    return Device(device_name(), "this machine", runtime_name(), threads)


@functools.cache
def cpu_name() -> str:
    """Return the processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


@functools.cache
def cpu_identity() -> str:
    """Return what tells two processors apart, since names can be as short as "AMD EPYC"."""
    fields = ("vendor_id", "cpu family", "model", "stepping", "cache size")
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0].splitlines()
    except OSError:
        lines = []
    found = {line.split(":", 1)[0].strip(): line.split(":", 1)[1].strip() for line in lines if ":" in line}
    flags = {"avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8"} & set(found.get("flags", "").split())
    parts = [cpu_name(), platform.machine(), *(found.get(name, "") for name in fields), *sorted(flags)]
    return " ".join(part for part in parts if part)


def device_name() -> str:
    """Return the name people read."""
    return f"this machine ({cpu_name()})"


@functools.cache
def runtime_name() -> str:
    """Return "onnxruntime" with its version, without importing it."""
    return f"onnxruntime {version('onnxruntime')}"


def available_devices() -> list[dict[str, Any]]:
    """Return the entry of this machine for ``workbench devices``: name, kind, runtime, summary."""
    device = this_machine()
    summary = f"{cpu_name()}, {device.runtime}, {device.threads} thread, batch 1"
    return [{"name": "this-machine", "kind": device.kind, "runtime": device.runtime, "summary": summary}]
