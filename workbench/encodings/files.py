"""Writing a file so that it is either the whole new one or the untouched old one."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path


def write_atomically(path: Path, data: bytes) -> Path:
    """Write `data` to `path` by way of a temporary file beside it; gives the path.

    The temporary file is flushed to the disk before it takes the name, and removed if anything fails, so
    that neither a full disk nor a crash costs the old file. Links are followed. Raises OSError.
    """
    target = path.resolve()
    if target.exists() and not target.is_file():
        raise OSError(f"{path} is there already and is not a file")
    temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.tmp")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)  # binary: Windows only
        descriptor = os.open(temporary, flags, 0o666)
        try:
            _write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _flush_directory(target.parent)
    return path


def _write_all(descriptor: int, data: bytes) -> None:
    """Write everything; os.write may write less than it is given, most of all on a disk that fills up."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _flush_directory(directory: Path) -> None:
    """Make the new name last through a power cut, where the system lets directories be flushed."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
