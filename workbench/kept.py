"""What was foreseen of one model's recipes, in a file that sessions share, so that each is found once on a machine.

It depends on the model, on the images, on the code and on the processor, whose last bits decide how a weight is
rounded; it is kept under all of that, and under nothing else is it found again.
"""

from __future__ import annotations

import functools
import hashlib
import sqlite3
import threading
import time
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from workbench.history import Key
from workbench.measure.latency.device import cpu_identity
from workbench.subject import Subject

#: Days that figures are kept.
DAYS = 60
#: Seconds to wait while another process writes.
PATIENCE = 1.0

_TABLE = """
create table if not exists figures (
    owner text not null, recipe text not null,
    bytes integer not null, entropy_bytes integer not null, runtime_bytes integer,
    images integer not null, score real, low real, high real, agreement real,
    day integer not null, primary key (owner, recipe)
) without rowid
"""


class Found(NamedTuple):
    """A recipe's figures: the bytes of its archive, of that one's entropy bound, of the file a runtime would load.

    Then, of the first ``images``, what it is judged by with its interval, and the share of the dense model's answers;
    of none where no image was run.
    """

    bytes: int
    entropy_bytes: int
    runtime_bytes: int | None
    images: int = 0
    score: float | None = None
    low: float | None = None
    high: float | None = None
    agreement: float | None = None


class Kept:
    """What was found of ``owner``'s recipes, by their hashes, in the file ``path``; without one, in memory.

    A file that cannot be written or read is done without.
    """

    def __init__(self, path: Path | None, owner: str) -> None:
        self._owner = owner
        self._known: dict[str, Found] = {}
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        if path is not None:
            with suppress(sqlite3.Error, OSError):
                self._connection = _opened(path)
                self._known = self._rows()

    def get(self, recipe: str) -> Found | None:
        """Return what is known of the recipe with this hash, without a look into the file."""
        return self._known.get(recipe)

    def look_up(self, recipe: str) -> Found | None:
        """Return what is known of it here, or was found by another process meanwhile."""
        if recipe not in self._known:
            with suppress(sqlite3.Error):
                self._known |= self._rows(" and recipe = ?", recipe)
        return self._known.get(recipe)

    def keep(self, recipe: str, found: Found) -> None:
        """Keep what was found of the recipe with this hash."""
        self._known[recipe] = found
        if self._connection is not None:
            row = (self._owner, recipe, *found, _today())
            with self._lock, suppress(sqlite3.Error), self._connection:
                self._connection.execute(f"insert or replace into figures values ({', '.join('?' * len(row))})", row)

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def _rows(self, condition: str = "", *values: str) -> dict[str, Found]:
        if self._connection is None:
            return {}
        query = f"select recipe, {', '.join(Found._fields)} from figures where owner = ?{condition}"
        with self._lock:
            rows = self._connection.execute(query, (self._owner, *values)).fetchall()
        return {recipe: Found(*figures) for recipe, *figures in rows}


def owner_of(subject: Subject, key: Key, seed: int) -> str:
    """Return what a recipe's figures depend on: the model as it is written, the images, the code, and the machine."""
    model = subject.model
    parts = [subject.hash, *subject.image_shape, model.name, model.origin, type(model.module).__name__, key, seed]
    parts += [_code(), cpu_identity()]
    parts += [f"{library} {metadata.version(library)}" for library in ("torch", "numpy", "zstandard", "onnxruntime")]
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()


@functools.cache
def _code() -> str:
    """Return a hash of the sources: any change of them may change a figure."""
    found = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        found.update(file.read_bytes())
    return found.hexdigest()


def _opened(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=PATIENCE, check_same_thread=False)
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = normal")
    with connection:
        connection.execute(_TABLE)
        connection.execute("delete from figures where day < ?", (_today() - DAYS,))
    return connection


def _today() -> int:
    return int(time.time() // 86400)
