"""What can still be read of a damaged file, row by row.

A table is a tree of pages by row id: a lost page takes only its own rows. So a table is read forward until an
error, then backward from its end, and what lies between is asked for row by row.
"""

from __future__ import annotations

import contextlib
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .schema import UNJUDGE, format_of

#: Rows asked for one at a time after the last that could be read in order, at most.
REACH = 20_000

Row = tuple[Any, ...]


def salvage(damaged: Path, into: sqlite3.Connection) -> int:
    """Copy the readable rows of ``damaged`` into an empty history; return how many settings and findings."""
    with contextlib.closing(sqlite3.connect(damaged, isolation_level=None)) as source:
        try:
            source.execute("PRAGMA writable_schema = ON")  # else a file that was cut off is refused as a whole
            first = format_of(source) == 1  # which kept predictions beside the figures
            before = into.total_changes
            into.execute("BEGIN IMMEDIATE")
            _copy(source, into, "settings", drop=("predictions",) if first else ())
            into.execute("UPDATE settings SET parent = NULL WHERE parent NOT IN (SELECT id FROM settings)")
            into.execute(UNJUDGE)
            _copy_details(source, into, "settings" if first else "details")
            _copy(source, into, "findings")
            _copy(source, into, "baselines")
            into.execute("COMMIT")
        except sqlite3.DatabaseError:  # its very first pages are gone
            with contextlib.suppress(sqlite3.Error):
                into.execute("ROLLBACK")
            return 0
    if into.total_changes == before:
        return 0
    counts = into.execute("SELECT (SELECT count(*) FROM settings), (SELECT count(*) FROM findings)").fetchone()
    return int(sum(counts))


def _copy(source: sqlite3.Connection, into: sqlite3.Connection, table: str, drop: tuple[str, ...] = ()) -> None:
    here, there = _columns(source, table), _columns(into, table)
    shared = [name for name in here if name in there and name not in drop]
    if not shared:
        return
    insert = f"INSERT OR IGNORE INTO {table} ({', '.join(shared)}) VALUES ({', '.join('?' * len(shared))})"
    packed = shared.index("logits") if "logits" in shared else None
    for row in _rows(source, table, shared):
        with contextlib.suppress(sqlite3.IntegrityError):  # a half-written row
            if packed is None or _is_whole(row[packed]):
                into.execute(insert, row)


def _copy_details(source: sqlite3.Connection, into: sqlite3.Connection, table: str) -> None:
    """Copy predictions and layers, where their checksum holds; a setting without is measured anew when reached."""
    if table == "settings":
        rows: Iterator[Row] = ((*row, None) for row in _rows(source, table, ["id", "predictions"]))
    else:
        rows = _rows(source, table, ["setting", "predictions", "layers"])
    for identity, predictions, layers in rows:
        with contextlib.suppress(sqlite3.IntegrityError, zlib.error, TypeError):
            zlib.decompress(predictions)
            row = (identity, predictions, layers if _is_whole(layers) else None)
            into.execute("INSERT OR IGNORE INTO details VALUES (?, ?, ?)", row)
    into.execute("DELETE FROM details WHERE setting NOT IN (SELECT id FROM settings)")


def _is_whole(blob: bytes | None) -> bool:
    """Whether a compressed blob is as it was written; zlib keeps a checksum."""
    try:
        return blob is not None and bool(zlib.decompress(blob))
    except (zlib.error, TypeError):
        return False


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


def _rows(source: sqlite3.Connection, table: str, columns: list[str]) -> Iterator[Row]:
    """Yield the rows that can be read, each once."""
    select = f"SELECT rowid, {', '.join(columns)} FROM {table}"
    last, seen = 0, set()
    with contextlib.suppress(sqlite3.DatabaseError):
        for identity, *row in source.execute(f"{select} ORDER BY rowid"):
            last = identity
            yield tuple(row)
        return
    with contextlib.suppress(sqlite3.DatabaseError):
        for identity, *row in source.execute(f"{select} WHERE rowid > ? ORDER BY rowid DESC", (last,)):
            seen.add(identity)
            yield tuple(row)
    for wanted in range(last + 1, min(seen, default=last + 1 + REACH)):
        with contextlib.suppress(sqlite3.DatabaseError):
            for _, *row in source.execute(f"{select} WHERE rowid = ?", (wanted,)).fetchall():
                yield tuple(row)
