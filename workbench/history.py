"""Every measured setting, with its parent, in one SQLite file.

A row is one recipe measured on the whole of one split of one data set with one model; measuring it
again finds the row. Rows keep each image's predicted class (one byte an image, compressed), so that
what flipped between two settings can be told later without running anything. Baseline logits are kept
too: they are what the estimator compares with. The file may be open in several processes at once.
"""

from __future__ import annotations

import sqlite3
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.data.paths import user_folder
from workbench.errors import WorkbenchError

FORMAT = 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS settings (
    id INTEGER PRIMARY KEY,
    parent INTEGER REFERENCES settings(id),
    time REAL NOT NULL,
    model TEXT NOT NULL, model_hash TEXT NOT NULL,
    data TEXT NOT NULL, data_hash TEXT NOT NULL, split TEXT NOT NULL,
    runtime TEXT NOT NULL, recipe_hash TEXT NOT NULL, recipe TEXT NOT NULL,
    n INTEGER NOT NULL, accuracy REAL NOT NULL, top5 REAL, loss REAL NOT NULL, agreement REAL NOT NULL,
    bytes INTEGER NOT NULL, dense_fp32_bytes INTEGER NOT NULL, runtime_bytes INTEGER, entropy_bytes INTEGER,
    latency_ms REAL, measured_ms REAL,
    predictions BLOB NOT NULL,
    UNIQUE (model_hash, data_hash, split, runtime, recipe_hash)
);
CREATE TABLE IF NOT EXISTS baselines (
    model_hash TEXT, data_hash TEXT, split TEXT, runtime TEXT, classes INTEGER NOT NULL, logits BLOB NOT NULL,
    PRIMARY KEY (model_hash, data_hash, split, runtime)
);
"""


class HistoryError(WorkbenchError):
    """A history file that can't be opened or written."""


@dataclass(frozen=True)
class Key:
    """What a measured figure belongs to, beside the recipe."""

    model: str
    model_hash: str
    data: str
    data_hash: str
    split: str
    runtime: str


@dataclass(frozen=True)
class Record:
    """One measured setting. Accuracy, top-5 and agreement are shares, loss is mean cross-entropy."""

    recipe_hash: str
    recipe: str
    n: int
    accuracy: float
    top5: float | None
    loss: float
    agreement: float
    bytes: int
    dense_fp32_bytes: int
    runtime_bytes: int | None
    entropy_bytes: int | None
    latency_ms: float | None
    measured_ms: float | None = None
    id: int | None = None
    parent: int | None = None
    time: float = 0.0


_FIELDS = (
    "recipe_hash", "recipe", "n", "accuracy", "top5", "loss", "agreement", "bytes", "dense_fp32_bytes",
    "runtime_bytes", "entropy_bytes", "latency_ms", "measured_ms",
)  # fmt: skip


class History:
    """The settings measured so far; safe to use from several threads.

    ``History()`` opens the person's own file, ``History(path)`` another, ``History(":memory:")`` none.
    """

    def __init__(self, path: Path | str | None = None) -> None:
        if path is None:
            path = user_folder() / "history.sqlite"
        self.path = str(path)
        self._lock = threading.Lock()
        try:
            if self.path != ":memory:":
                Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self.path, timeout=10, check_same_thread=False)
            self._prepare()
        except (sqlite3.Error, OSError) as error:
            raise HistoryError(
                f"The history file '{self.path}' cannot be opened ({error}); choose another path or move it away."
            ) from error

    def add(self, key: Key, record: Record, predictions: NDArray[np.integer[Any]], parent: int | None) -> int:
        """Store a measured setting and return its id; one measured before keeps its id and parent."""
        values = [getattr(record, field) for field in _FIELDS]
        blob = zlib.compress(predictions.astype(np.uint16).tobytes(), 1)
        columns = (
            "parent", "time", "model", "model_hash", "data", "data_hash", "split", "runtime", *_FIELDS, "predictions",
        )  # fmt: skip
        row = (
            parent, time.time(), key.model, key.model_hash, key.data, key.data_hash, key.split, key.runtime,
            *values, blob,
        )  # fmt: skip
        marks = ", ".join("?" * len(columns))
        with self._lock, self._connection:
            self._connection.execute(f"INSERT OR IGNORE INTO settings ({', '.join(columns)}) VALUES ({marks})", row)
            found = self._connection.execute(
                f"SELECT id FROM settings WHERE {_WHERE} AND recipe_hash = ?", (*_where(key), record.recipe_hash)
            ).fetchone()
        return int(found[0])

    def find(self, key: Key, recipe_hash: str) -> Record | None:
        """Return the record of a recipe measured before, or None."""
        rows = self._select(f"WHERE {_WHERE} AND recipe_hash = ?", (*_where(key), recipe_hash))
        return next(rows, None)

    def records(self, key: Key, after: int = 0) -> list[Record]:
        """Return the records of a model on a split, oldest first; with ``after``, those with a larger id."""
        return list(self._select(f"WHERE {_WHERE} AND id > ? ORDER BY id", (*_where(key), after)))

    def predictions(self, identity: int) -> NDArray[np.uint16]:
        """Return the predicted class of every image of the split, in the split's order."""
        with self._lock:
            row = self._connection.execute("SELECT predictions FROM settings WHERE id = ?", (identity,)).fetchone()
        if row is None:
            raise HistoryError(f"The history has no setting number {identity}.")
        return np.frombuffer(zlib.decompress(row[0]), np.uint16)

    def note_measured_latency(self, key: Key, recipe_hash: str, ms: float) -> None:
        """Add a measured latency to a recipe's record, where there is one."""
        with self._lock, self._connection:
            self._connection.execute(
                f"UPDATE settings SET measured_ms = ? WHERE {_WHERE} AND recipe_hash = ?",
                (ms, *_where(key), recipe_hash),
            )

    def baseline_logits(self, key: Key) -> NDArray[np.float32] | None:
        """Return the stored baseline logits ``(n, classes)``, or None."""
        with self._lock:
            found = self._connection.execute(f"SELECT classes, logits FROM baselines WHERE {_WHERE}", _where(key))
            row = found.fetchone()
        if row is None:
            return None
        return np.frombuffer(zlib.decompress(row[1]), np.float32).reshape(-1, row[0])

    def keep_baseline_logits(self, key: Key, logits: NDArray[np.float32]) -> None:
        """Store baseline logits ``(n, classes)``."""
        blob = zlib.compress(np.ascontiguousarray(logits, np.float32).tobytes(), 1)
        with self._lock, self._connection:
            self._connection.execute(
                "INSERT OR REPLACE INTO baselines VALUES (?, ?, ?, ?, ?, ?)", (*_where(key), logits.shape[1], blob)
            )

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _prepare(self) -> None:
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version > FORMAT:
            raise HistoryError(
                f"The history file '{self.path}' was written by a newer version; "
                "update the workbench or choose another file."
            )
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.executescript(_SCHEMA)
        self._connection.execute(f"PRAGMA user_version = {FORMAT}")
        self._connection.commit()

    def _select(self, condition: str, values: tuple[Any, ...]) -> Iterator[Record]:
        with self._lock:
            rows = self._connection.execute(
                f"SELECT id, parent, time, {', '.join(_FIELDS)} FROM settings {condition}", values
            ).fetchall()
        for identity, parent, when, *figures in rows:
            named = dict(zip(_FIELDS, figures, strict=True))
            yield Record(**named, id=identity, parent=parent, time=when)


_WHERE = "model_hash = ? AND data_hash = ? AND split = ? AND runtime = ?"


def _where(key: Key) -> tuple[str, str, str, str]:
    return key.model_hash, key.data_hash, key.split, key.runtime
