"""The History: settings, baselines and findings written to and read from one file."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.data.paths import user_folder

from .opening import open_file
from .values import Finding, HistoryError, Key, Record, present_versions, read_versions

_FIGURES = (
    "recipe_hash", "recipe", "n", "accuracy", "top5", "loss", "agreement", "bytes", "dense_fp32_bytes",
    "runtime_bytes", "entropy_bytes", "latency_ms", "measured_ms",
)  # fmt: skip
_SUBJECT = ("model", "model_hash", "data", "data_hash", "split", "runtime")
_RECORD = ", ".join((*_FIGURES, "id", "parent", "time", "versions", "name", "starred", "deleted"))
#: Letters of a name, at most.
MOST_LETTERS = 80
_WHERE = "model_hash = ? AND data_hash = ? AND split = ? AND runtime = ?"


class History:
    """The settings measured so far; safe to use from several threads.

    ``History()`` opens the person's own file, ``History(path)`` another, ``History(":memory:")`` none. ``notes``
    are sentences on the state the file was found in; not ``lasting``, nothing new outlives the process.
    Every method raises ``HistoryError`` where the file can't be read or written.
    """

    def __init__(self, path: Path | str | None = None) -> None:
        self.path = str(user_folder() / "history.sqlite" if path is None else path)
        self._lock = threading.RLock()
        try:
            opened = open_file(self.path, own=path is None)
        except (sqlite3.Error, OSError) as error:
            raise HistoryError(
                f"The history file '{self.path}' cannot be opened ({error}); choose another path or move it away."
            ) from error
        self._connection = opened.connection
        self.notes, self.lasting = opened.notes, opened.lasting and self.path != ":memory:"

    def add(
        self,
        key: Key,
        record: Record,
        predictions: NDArray[np.integer[Any]],
        parent: int | None,
        layers: Sequence[Mapping[str, Any]] = (),
    ) -> int:
        """Store a measured setting and return its id; one measured before keeps its id, parent and figures.

        ``layers`` is each layer's figures as plain data; the latest are kept. One that was deleted is restored.
        """
        columns = ("parent", "time", *_SUBJECT, *_FIGURES, "versions")
        row = (
            parent, time.time(), *(getattr(key, name) for name in _SUBJECT),
            *(getattr(record, name) for name in _FIGURES), json.dumps(dict(present_versions())),
        )  # fmt: skip
        with self._writing() as connection:
            connection.execute(
                f"INSERT OR IGNORE INTO settings ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", row
            )
            identity, deleted = connection.execute(
                f"SELECT id, deleted FROM settings WHERE {_WHERE} AND recipe_hash = ?",
                (*key.identity, record.recipe_hash),
            ).fetchone()
            if deleted is not None:
                connection.execute("UPDATE settings SET deleted = NULL WHERE id = ?", (identity,))
            blob = zlib.compress(predictions.astype(np.uint16).tobytes(), 1)
            table = zlib.compress(json.dumps(list(layers)).encode(), 1) if layers else None
            connection.execute(
                "INSERT INTO details VALUES (?, ?, ?) ON CONFLICT (setting) DO UPDATE SET layers = excluded.layers"
                " WHERE excluded.layers IS NOT NULL AND layers IS NOT excluded.layers",
                (identity, blob, table),
            )
        return int(identity)

    def find(self, key: Key, recipe_hash: str) -> Record | None:
        """Return the record of a recipe measured before, or None; one that was deleted is found too."""
        return next(iter(self._select(f"{_WHERE} AND recipe_hash = ?", *key.identity, recipe_hash)), None)

    def records(self, key: Key, after: int = 0, also: Key | None = None) -> list[Record]:
        """Return the records of a model on a split, oldest first; with ``after``, those with a larger id.

        With those that belong to ``also``, where it is given.
        """
        return self._select(
            f"({_WHERE} OR {_WHERE}) AND deleted IS NULL AND id > ? ORDER BY id",
            *key.identity, *(also or key).identity, after,
        )  # fmt: skip

    def deleted(self, key: Key) -> list[Record]:
        """Return the deleted records of a model on a split, which may be restored; the last deleted first."""
        return self._select(f"{_WHERE} AND deleted IS NOT NULL ORDER BY deleted DESC, id DESC", *key.identity)

    def record(self, identity: int) -> Record:
        """Return one setting, deleted or not."""
        found = self._select("id = ?", identity)
        if not found:
            raise HistoryError(f"The history has no setting number {identity}.")
        return found[0]

    def key_of(self, identity: int) -> Key:
        """Return what a setting belongs to."""
        with self._reading() as connection:
            row = connection.execute(f"SELECT {', '.join(_SUBJECT)} FROM settings WHERE id = ?", (identity,)).fetchone()
        if row is None:
            raise HistoryError(f"The history has no setting number {identity}.")
        return Key(*row)

    def subjects(self) -> list[tuple[Key, int]]:
        """Return everything that settings were measured of, with how many; the latest first."""
        with self._reading() as connection:
            rows = connection.execute(
                f"SELECT {', '.join(_SUBJECT)}, count(*) FROM settings WHERE deleted IS NULL"
                " GROUP BY model_hash, data_hash, split, runtime ORDER BY max(time) DESC"
            ).fetchall()
        return [(Key(*subject), count) for *subject, count in rows]

    def known_subjects(self) -> list[Key]:
        """Return everything that settings were measured of, deleted ones too; the latest first."""
        with self._reading() as connection:
            rows = connection.execute(
                f"SELECT {', '.join(_SUBJECT)} FROM settings"
                " GROUP BY model_hash, data_hash, split, runtime ORDER BY max(time) DESC"
            ).fetchall()
        return [Key(*subject) for subject in rows]

    def rename(self, identity: int, name: str) -> None:
        """Give a setting a name; an empty one takes it away."""
        self._update("name = ?", (identity,), " ".join(name.split())[:MOST_LETTERS])

    def star(self, identity: int, starred: bool = True) -> None:
        """Star a setting, or take its star away."""
        self._update("starred = ?", (identity,), starred)

    def delete(self, *identities: int) -> None:
        """Delete settings; they are no longer listed, until they are restored or reached again."""
        self._update("deleted = ?", identities, time.time())

    def restore(self, *identities: int) -> None:
        """Bring deleted settings back, with all they had."""
        self._update("deleted = ?", identities, None)

    def predictions(self, identity: int) -> NDArray[np.uint16]:
        """Return the predicted class of every image of the split, in the split's order."""
        with self._reading() as connection:
            row = connection.execute("SELECT predictions FROM details WHERE setting = ?", (identity,)).fetchone()
        if row is None:
            raise HistoryError(f"The history has no setting number {identity}.")
        return np.frombuffer(zlib.decompress(row[0]), np.uint16)

    def layers(self, identity: int) -> list[dict[str, Any]]:
        """Return the figures of a setting's layers, in call order; empty where they were not kept yet."""
        with self._reading() as connection:
            row = connection.execute("SELECT layers FROM details WHERE setting = ?", (identity,)).fetchone()
        if row is None:
            raise HistoryError(f"The history has no setting number {identity}.")
        return list(json.loads(zlib.decompress(row[0]))) if row[0] else []

    def note_measured_latency(self, key: Key, recipe_hash: str, ms: float) -> None:
        """Add a measured latency to a recipe's record, where there is one."""
        with self._writing() as connection:
            connection.execute(
                f"UPDATE settings SET measured_ms = ? WHERE {_WHERE} AND recipe_hash = ?",
                (ms, *key.identity, recipe_hash),
            )

    def baseline_logits(self, key: Key) -> NDArray[np.float32] | None:
        """Return the stored baseline logits ``(n, classes)``, or None."""
        with self._reading() as connection:
            found = connection.execute(f"SELECT classes, logits FROM baselines WHERE {_WHERE}", key.identity)
            row = found.fetchone()
        if row is None:
            return None
        return np.frombuffer(zlib.decompress(row[1]), np.float32).reshape(-1, row[0])

    def keep_baseline_logits(self, key: Key, logits: NDArray[np.float32]) -> None:
        """Store baseline logits ``(n, classes)``."""
        blob = zlib.compress(np.ascontiguousarray(logits, np.float32).tobytes(), 1)
        with self._writing() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO baselines VALUES (?, ?, ?, ?, ?, ?)", (*key.identity, logits.shape[1], blob)
            )

    def keep_finding(self, key: Key, kind: str, question: str, payload: bytes, done: bool) -> None:
        """Store what longer work knows so far; what it knew before of the same question is replaced.

        The payload is safe from the moment this returns, even where the process is killed.
        """
        row = (
            time.time(), *(getattr(key, name) for name in _SUBJECT), kind, question, done, payload,
            json.dumps(dict(present_versions())),
        )  # fmt: skip
        with self._writing() as connection:
            connection.execute(
                f"INSERT INTO findings (time, {', '.join(_SUBJECT)}, kind, question, done, payload, versions)"
                f" VALUES ({', '.join('?' * len(row))})"
                f" ON CONFLICT (model_hash, data_hash, split, runtime, kind, question) DO UPDATE SET"
                " time = excluded.time, done = excluded.done, payload = excluded.payload, versions = excluded.versions",
                row,
            )

    def finding(self, key: Key, kind: str, question: str) -> Finding | None:
        """Return what is known of a question, or None."""
        return next(iter(self._findings("kind = ? AND question = ?", key, kind, question)), None)

    def findings(self, key: Key, kind: str | None = None) -> list[Finding]:
        """Return what is known of a model on a split, the latest first; only of one ``kind`` where it is given."""
        return self._findings("? IN (kind, '') ORDER BY time DESC, id DESC", key, kind or "")

    def forget_finding(self, key: Key, kind: str, question: str) -> None:
        """Drop what is known of a question, where anything is."""
        with self._writing() as connection:
            connection.execute(
                f"DELETE FROM findings WHERE {_WHERE} AND kind = ? AND question = ?", (*key.identity, kind, question)
            )

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _update(self, change: str, identities: tuple[int, ...], value: Any) -> None:
        """Change all of the settings, or none where one is not there."""
        with self._writing() as connection:
            for identity in identities:
                done = connection.execute(f"UPDATE settings SET {change} WHERE id = ?", (value, identity))
                if done.rowcount == 0:
                    raise HistoryError(f"The history has no setting number {identity}.")

    def _select(self, condition: str, *values: Any) -> list[Record]:
        with self._reading() as connection:
            rows = connection.execute(f"SELECT {_RECORD} FROM settings WHERE {condition}", values).fetchall()
        return [_record(row) for row in rows]

    def _findings(self, condition: str, key: Key, *values: Any) -> list[Finding]:
        with self._reading() as connection:
            rows = connection.execute(
                f"SELECT kind, question, payload, done, time, versions FROM findings WHERE {_WHERE} AND {condition}",
                (*key.identity, *values),
            ).fetchall()
        return [
            Finding(kind, question, payload, bool(done), when, read_versions(versions))
            for kind, question, payload, done, when, versions in rows
        ]

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._connection
            except sqlite3.Error as error:
                raise self._trouble("read", error) from error
            except OverflowError as error:  # more than SQLite counts to
                raise HistoryError("The history has no setting of so large a number.") from error

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """All that is written inside is written together, or nothing of it."""
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                    self._connection.execute("COMMIT")
                except BaseException:
                    with contextlib.suppress(sqlite3.Error):  # where SQLite has rolled back by itself
                        self._connection.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise self._trouble("written", error) from error
            except OverflowError as error:
                raise HistoryError("The history has no setting of so large a number.") from error

    def _trouble(self, what: str, error: sqlite3.Error) -> HistoryError:
        advice = ""
        if "malformed" in str(error) or "not a database" in str(error):
            advice = " Open it anew: it will be moved aside, and what can be read is saved."
        return HistoryError(f"The history file '{self.path}' cannot be {what} ({error}).{advice}")


def _record(row: tuple[Any, ...]) -> Record:
    *figures, versions, name, starred, deleted = row
    known: list[Any] = [*figures, read_versions(versions), name, bool(starred), deleted]
    return Record(*known)
