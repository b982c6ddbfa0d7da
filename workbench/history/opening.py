"""Opening a history file, whatever state it is in.

A file of a newer version, or of another program, is refused and left alone. One that cannot be written is
copied into memory: what it holds is shown, and what is new is kept for the session. One that is damaged is
moved aside, a fresh one takes its place, and all rows that can still be read are saved into it.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from workbench.data.alone import alone

from .salvage import salvage
from .schema import APPLICATION, FORMAT, format_of, prepare
from .values import HistoryError

#: Seconds to wait while another process writes.
PATIENCE = 10
_MAGIC = b"SQLite format 3\x00"


@dataclass(frozen=True)
class Opened:
    """An open file; ``notes`` are sentences for the person. Not ``lasting``: what is written ends with the process."""

    connection: sqlite3.Connection
    lasting: bool = True
    notes: tuple[str, ...] = ()


def open_file(path: str, own: bool) -> Opened:
    """Open the history at ``path``; ``own`` says that nobody else's file can be there.

    Raises ``HistoryError``, ``OSError`` or ``sqlite3.Error``.
    """
    if path == ":memory:":
        return Opened(_ready(_connect(path), path))
    file = Path(path)
    if file.exists() and not _is_writable(file):
        return _open_read_only(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        return Opened(_open_checked(path))
    except sqlite3.OperationalError as error:  # locked, a full disk, no permission: nothing is wrong with the file
        if file.exists() and "readonly" in str(error):
            return _open_read_only(file)
        raise
    except sqlite3.DatabaseError as error:
        if not own and not _begins_like_one(file):
            raise HistoryError(
                f"'{path}' is not a history file and was left alone; choose another path for the history."
            ) from error
        return _replace(file)


def _connect(path: str, **options: bool) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=PATIENCE, check_same_thread=False, isolation_level=None, **options)


def _open_checked(path: str) -> sqlite3.Connection:
    connection = _connect(path)
    try:
        _refuse_foreign(connection, path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        said = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if said != "ok":
            raise sqlite3.DatabaseError(said)
        prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _ready(connection: sqlite3.Connection, path: str) -> sqlite3.Connection:
    _refuse_foreign(connection, path)
    prepare(connection)
    return connection


def _refuse_foreign(connection: sqlite3.Connection, path: str) -> None:
    """Raise where the file is of a newer version, or another program's; it has not been written to."""
    version = format_of(connection)
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    foreign = application not in (0, APPLICATION) or (bool(tables) and "settings" not in tables)
    if foreign or (tables and version == 0):
        raise HistoryError(f"'{path}' is another program's database and was left alone; choose another path.")
    if version > FORMAT:
        raise HistoryError(
            f"The history file '{path}' was written by a newer version; update the workbench or choose another file."
        )


def _is_writable(file: Path) -> bool:
    """Whether the file may be written, also to one whom permissions don't stop: who marks it read-only means it."""
    return bool(file.stat().st_mode & 0o222) and os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)


def _open_read_only(file: Path) -> Opened:
    copy = _connect(":memory:")
    waiting = file.with_name(f"{file.name}-wal").exists()  # what others have written lies there
    for how in ("mode=ro", "immutable=1") if waiting else ("immutable=1",):  # the first may leave files beside it
        try:
            with contextlib.closing(_connect(f"{file.resolve().as_uri()}?{how}", uri=True)) as source:
                source.backup(copy)
            break
        except sqlite3.OperationalError:
            if how == "immutable=1":
                raise
    note = f"The history file '{file}' is read-only: it is shown, and what is new is kept for this session only."
    return Opened(_ready(copy, str(file)), lasting=False, notes=(note,))


def _begins_like_one(file: Path) -> bool:
    with file.open("rb") as content:
        return content.read(len(_MAGIC)) == _MAGIC


def _replace(file: Path) -> Opened:
    """Move a damaged file aside and save what can be read into a fresh one."""
    with alone(file.with_name(f"{file.name}.lock"), lambda: False):
        with contextlib.suppress(sqlite3.DatabaseError):
            return Opened(_open_checked(str(file)))  # another process has replaced it meanwhile
        aside = _move_aside(file)
        connection = _open_checked(str(file))
        saved = salvage(aside, connection)
    what = f"{saved:,} of its settings and findings could be saved" if saved else "nothing in it could be read"
    note = f"The history file was damaged and moved to '{aside}'; {what}, and a fresh file was begun."
    return Opened(connection, notes=(note,))


def _move_aside(file: Path) -> Path:
    stem = f"{file.stem}.damaged-{time.strftime('%Y%m%d-%H%M%S')}"
    aside = file.with_name(f"{stem}{file.suffix}")
    for number in range(1, 1000):
        if not aside.exists():
            break
        aside = file.with_name(f"{stem}-{number}{file.suffix}")
    file.rename(aside)
    for suffix in ("-wal", "-shm"):
        beside = file.with_name(file.name + suffix)
        if beside.exists():
            beside.rename(aside.with_name(aside.name + suffix))
    return aside
