"""Memory of this process as the system counts it: now, and at its peak since it was last asked."""

from __future__ import annotations

import contextlib
from pathlib import Path

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident_bytes() -> int | None:
    """Return the resident set size, None where the system doesn't tell."""
    return _field("VmRSS")


def peak_bytes() -> int | None:
    """Return the largest resident set size since :func:`forget_peak`, None where the system doesn't tell."""
    return _field("VmHWM")


def forget_peak() -> None:
    """Let the peak begin anew, where the system allows it; elsewhere it stays that of the process."""
    with contextlib.suppress(OSError):
        _CLEAR.write_text("5")


def _field(name: str) -> int | None:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")]
    return found[0] if found else None
