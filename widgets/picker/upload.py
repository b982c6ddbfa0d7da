"""Files on their way into the kernel: those a page sends piece by piece, and paths that may be opened here.

The page says what it is about to send (``begin``), then sends pieces of at most a megabyte, each with the
places it belongs to (``write``), and then that it was all (``finish``). Files lie in a private folder,
which goes with the kernel, also where that is killed; an upload that was never finished is deleted with the
next.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from workbench.errors import WorkbenchError

MAX_BYTES = 500_000_000
MAX_FILES = 50_000
#: Finished uploads that are kept: the one in use, and one that waits for its partner.
KEPT = 3
#: Folders that paths may be opened in, separated as in PATH. Unset: any; empty: none.
FOLDERS = "WORKBENCH_DATA_FOLDERS"


class UploadError(WorkbenchError):
    """Files that cannot be taken, in one sentence."""


@dataclass
class _Upload:
    """One upload: where it goes, what was announced, and how much of each file is there."""

    folder: Path
    name: str
    files: int
    nbytes: int
    written: dict[PurePosixPath, int] = field(default_factory=dict)
    received: int = 0


class Uploads:
    """The uploads of one page; one is under way at a time."""

    def __init__(self, max_bytes: int = MAX_BYTES, max_files: int = MAX_FILES) -> None:
        self._max_bytes, self._max_files = max_bytes, max_files
        self._root: Path | None = None
        self._clear: Callable[[], object] = lambda: None
        self._open: dict[str, _Upload] = {}
        self._kept: list[Path] = []

    def take(self, what: str, key: str, content: Mapping[str, Any], buffers: Sequence[Any]) -> int | Path:
        """Take one message of the page; return the bytes received so far, or what was uploaded once it is whole.

        ``what`` is ``upload``, which announces one, ``piece``, ``uploaded`` or ``cancel``.
        """
        if what == "uploaded":
            return self.finish(key)
        if what == "piece":
            return self.write(key, content["parts"], memoryview(buffers[0]).cast("B"))
        if what == "upload":
            self.begin(key, str(content["name"]), int(content["files"]), int(content["bytes"]))
        else:
            self.cancel(key)
        return 0

    def begin(self, key: str, name: str, files: int, nbytes: int) -> None:
        """Make room for ``files`` files of ``nbytes`` together, called ``name``."""
        if nbytes > self._max_bytes:
            raise UploadError(
                f"'{name}' has {nbytes / 1e6:,.0f} MB, and a page may upload {self._max_bytes / 1e6:,.0f} MB: "
                "open it by its path on the kernel's machine, or load it in a notebook."
            )
        if files > self._max_files:
            raise UploadError(
                f"'{name}' has {files:,} files, and a page may upload {self._max_files:,}: "
                "open it by its path on the kernel's machine, or load it in a notebook."
            )
        if not files or not nbytes:
            raise UploadError(f"'{name}' is empty.")
        for other in list(self._open):
            self.cancel(other)
        try:
            if self._root is None:
                self._root = Path(tempfile.mkdtemp(prefix="workbench-"))
                self._clear = weakref.finalize(self, _delete, self._root, _guard(self._root))
            folder = Path(tempfile.mkdtemp(dir=self._root))
        except OSError as error:
            raise UploadError(f"There is no place to upload to here: {_reason(error)}.") from error
        self._open[key] = _Upload(folder, name, files, nbytes)

    def write(self, key: str, parts: Sequence[Mapping[str, Any]], data: memoryview) -> int:
        """Write ``data`` to its places and return the bytes received so far.

        ``parts``: mappings with ``path`` (relative), ``offset`` in that file, and ``size`` in bytes, in the
        order of ``data``.
        """
        upload = self._find(key)
        try:
            start = 0
            for part in parts:
                size = int(part["size"])
                self._write_part(upload, _safe(str(part["path"])), int(part["offset"]), data[start : start + size])
                start += size
            if start != data.nbytes or upload.received > upload.nbytes or len(upload.written) > upload.files:
                raise UploadError(f"'{upload.name}' sends other files than it announced; choose it again.")
        except OSError as error:
            self.cancel(key)
            raise UploadError(f"'{upload.name}' could not be kept: {_reason(error)}.") from error
        except (UploadError, KeyError, TypeError, ValueError) as error:
            self.cancel(key)
            if isinstance(error, UploadError):
                raise
            raise UploadError(f"'{upload.name}' was sent in pieces that do not fit together.") from error
        return upload.received

    def finish(self, key: str) -> Path:
        """Return the file or folder that was uploaded, once all of it is there."""
        upload = self._find(key)
        if upload.received != upload.nbytes or len(upload.written) != upload.files:
            self.cancel(key)
            raise UploadError(
                f"Only {upload.received:,} of the {upload.nbytes:,} bytes of '{upload.name}' arrived; choose it again."
            )
        del self._open[key]
        self._kept.append(upload.folder)
        for old in self._kept[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)
        self._kept = self._kept[-KEPT:]
        return upload.folder / next(iter(upload.written)).parts[0]

    def cancel(self, key: str) -> None:
        """Delete what came of an upload; an unknown one is none."""
        upload = self._open.pop(key, None)
        if upload is not None:
            shutil.rmtree(upload.folder, ignore_errors=True)

    def close(self) -> None:
        """Delete everything."""
        self._open.clear()
        self._kept.clear()
        self._clear()
        self._root = None

    def _find(self, key: str) -> _Upload:
        if key not in self._open:
            raise UploadError("This upload has ended; choose the file again.")
        return self._open[key]

    @staticmethod
    def _write_part(upload: _Upload, path: PurePosixPath, offset: int, data: memoryview) -> None:
        if offset != upload.written.get(path, 0):
            raise UploadError(f"'{upload.name}' was sent in pieces that do not fit together.")
        target = upload.folder / path
        if not offset:
            target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("ab" if offset else "xb") as file:
            file.write(data)
        upload.written[path] = offset + data.nbytes
        upload.received += data.nbytes


def _guard(folder: Path) -> subprocess.Popen[bytes] | None:
    """Return a process that deletes ``folder`` once this one has ended: a kernel that is killed cleans up nothing.

    It waits for the end of a pipe that only this process holds, in a session of its own, so that what ends
    the kernel's processes does not end it.
    """
    if os.name != "posix":
        return None
    command = ["/bin/sh", "-c", 'cat >/dev/null; rm -rf -- "$1"', "sh", str(folder)]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, start_new_session=True)


def _delete(folder: Path, guard: subprocess.Popen[bytes] | None) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if guard is not None and guard.stdin is not None:
        guard.stdin.close()
        guard.wait()


def folders() -> tuple[Path, ...] | None:
    """Return the folders whose files may be opened by path; None where any may."""
    said = os.environ.get(FOLDERS)
    if said is None:
        return None
    return tuple(Path(part).expanduser().resolve() for part in said.split(os.pathsep) if part)


def check_path(text: str) -> Path:
    """Return the file or folder ``text`` names on this machine.

    Raises ``UploadError`` where it is not there or lies outside of the folders that may be opened. Where
    only some may, nothing is told of what exists elsewhere.
    """
    allowed = folders()
    if allowed is not None and not allowed:
        raise UploadError("Files of this machine cannot be opened from here; upload them instead.")
    if not text.strip() or "\0" in text or text.startswith(("\\\\", "//")):
        raise UploadError("Type the path of a file or of a folder on the kernel's machine.")
    try:
        path = Path(text.strip()).expanduser().resolve()
        inside = allowed is None or any(path.is_relative_to(folder) for folder in allowed)
        there = inside and path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        raise UploadError(f"'{text.strip()[:200]}' is no path that can be opened here.") from error
    if not inside:
        raise UploadError(f"Only files below {' and '.join(map(str, allowed or ()))} can be opened from here.")
    if not there:
        raise UploadError(f"There is no file or folder {path}.")
    return path


def _safe(text: str) -> PurePosixPath:
    """Return a relative path that stays where it is put."""
    path = PurePosixPath(text)
    odd = path.is_absolute() or not path.parts or ".." in path.parts or "\\" in text or "\0" in text or ":" in text[:3]
    if odd or any(len(part.encode("utf-8", "replace")) > 255 for part in path.parts):
        raise UploadError(f"'{text[:200]}' is no name for a file.")
    return path


def _reason(error: OSError) -> str:
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:]
