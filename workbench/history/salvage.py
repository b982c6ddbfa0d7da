"""What can still be read of a damaged file, row by row.

First as SQLite finds them, from either end of each table until an error; then, since a lost page hides all that the
table's tree has below it, from every page that is left (``pages``). Where both know a row the first counts.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .pages import Column, Row, read_pages
from .schema import UNJUDGE, format_of

#: Tables and the columns of them that are kept, in the order in which they are saved: what is referred to first.
_TABLES = ("settings", "details", "findings", "baselines")
#: What lost rows leave behind: parents that are gone, and details of no setting; and what format 2 called accuracy.
_TIDY = (
    "UPDATE settings SET parent = NULL WHERE parent NOT IN (SELECT id FROM settings)",
    "DELETE FROM details WHERE setting NOT IN (SELECT id FROM settings)",
    UNJUDGE,
)


def salvage(damaged: Path, into: sqlite3.Connection) -> int:
    """Copy the readable rows of ``damaged`` into an empty history; return how many settings and findings.

    Raises ``sqlite3.Error`` where they cannot be written.
    """
    into.execute("BEGIN IMMEDIATE")
    try:
        with contextlib.suppress(sqlite3.DatabaseError), contextlib.closing(_open(damaged)) as source:
            for table, names, row in _listed(source):
                _keep(into, table, names, row)
        columns = {table: _columns(into, table) for table in _TABLES}
        for table, row in read_pages(damaged, {table: [*known.values()] for table, known in columns.items()}):
            _keep(into, table, [*columns[table]], row)
        for statement in _TIDY:
            into.execute(statement)
        into.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # where SQLite has rolled back by itself
            into.execute("ROLLBACK")
        raise
    counts = into.execute("SELECT (SELECT count(*) FROM settings), (SELECT count(*) FROM findings)").fetchone()
    return int(sum(counts))


def _open(damaged: Path) -> sqlite3.Connection:
    source = sqlite3.connect(damaged, isolation_level=None)
    source.execute("PRAGMA writable_schema = ON")  # else a file that was cut off is refused as a whole
    return source


def _listed(source: sqlite3.Connection) -> Iterator[tuple[str, list[str], Row]]:
    """Yield table, columns and values of the rows that SQLite finds."""
    first = format_of(source) == 1  # which kept predictions beside the figures
    for table in _TABLES:
        if first and table == "details":
            names = ["id", "predictions"]
            for row in _rows(source, "settings", names):
                yield table, ["setting", "predictions"], row
            continue
        names = [name for name in _columns(source, table) if not (first and name == "predictions")]
        if names:
            yield from ((table, names, row) for row in _rows(source, table, names))


def _rows(source: sqlite3.Connection, table: str, columns: list[str]) -> Iterator[Row]:
    """Yield the rows that can be read from either end, each once."""
    select = f"SELECT rowid, {', '.join(columns)} FROM {table}"
    last = 0
    with contextlib.suppress(sqlite3.DatabaseError):
        for identity, *row in source.execute(f"{select} ORDER BY rowid"):
            last = identity
            yield tuple(row)
        return
    with contextlib.suppress(sqlite3.DatabaseError):
        for _, *row in source.execute(f"{select} WHERE rowid > ? ORDER BY rowid DESC", (last,)):
            yield tuple(row)


def _keep(into: sqlite3.Connection, table: str, names: Sequence[str], row: Row) -> None:
    """Insert a row that is whole and not there yet; a setting without details is measured anew when reached."""
    values = dict(zip(names, row, strict=True))
    if not all(_is_whole(values[name]) for name in ("predictions", "logits") if name in values):
        return
    if "layers" in values and not _is_whole(values["layers"]):
        values["layers"] = None
    with contextlib.suppress(sqlite3.IntegrityError, ValueError, TypeError):  # a half-written row
        if "recipe" in values:
            json.loads(values["recipe"])
        marks = ", ".join("?" * len(values))
        into.execute(f"INSERT OR IGNORE INTO {table} ({', '.join(values)}) VALUES ({marks})", [*values.values()])


def _is_whole(blob: Any) -> bool:
    """Whether a compressed blob is as it was written; zlib keeps a checksum."""
    try:
        return bool(zlib.decompress(blob))
    except (zlib.error, TypeError):
        return False


def _columns(connection: sqlite3.Connection, table: str) -> dict[str, Column]:
    """Return a table's columns by name, in order."""
    rows = connection.execute(f"PRAGMA table_info({table})").fetchall()
    keys = sum(bool(key) for *_, key in rows)
    return {
        name: Column(kind, not needed, kind == "INTEGER" and bool(key) and keys == 1)
        for _, name, kind, needed, _, key in rows
    }
