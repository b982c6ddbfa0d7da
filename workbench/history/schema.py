"""The tables of a history file, and how a file of an older format becomes one of the present.

A change of the tables raises ``FORMAT`` and adds a step to ``MIGRATIONS``; a step runs within one transaction,
so a process killed in its midst leaves the old format whole.
"""

from __future__ import annotations

import sqlite3

from .values import WITHOUT_LABELS

FORMAT = 3

#: Marks a file as ours ("wbhy"), so that no other program's database is written to.
APPLICATION = 0x77626879

_SETTINGS = """
CREATE TABLE {name} (
    id INTEGER PRIMARY KEY,
    parent INTEGER REFERENCES settings(id),
    time REAL NOT NULL,
    model TEXT NOT NULL, model_hash TEXT NOT NULL,
    data TEXT NOT NULL, data_hash TEXT NOT NULL, split TEXT NOT NULL,
    runtime TEXT NOT NULL, recipe_hash TEXT NOT NULL, recipe TEXT NOT NULL,
    n INTEGER NOT NULL, accuracy REAL{judged}, top5 REAL, loss REAL{judged}, agreement REAL NOT NULL,
    bytes INTEGER NOT NULL, dense_fp32_bytes INTEGER NOT NULL, runtime_bytes INTEGER, entropy_bytes INTEGER,
    latency_ms REAL, measured_ms REAL,
    versions TEXT NOT NULL DEFAULT '{{}}',
    name TEXT NOT NULL DEFAULT '', starred INTEGER NOT NULL DEFAULT 0, deleted REAL,
    UNIQUE (model_hash, data_hash, split, runtime, recipe_hash)
)"""
#: Those of format 2, which kept agreement as accuracy where there were no labels.
_SETTINGS_2 = _SETTINGS.format(name="settings", judged=" NOT NULL")

# Apart from the settings, so that thousands of them are read without turning over their predictions.
_DETAILS = """
CREATE TABLE details (
    setting INTEGER PRIMARY KEY REFERENCES settings(id),
    predictions BLOB NOT NULL,
    layers BLOB
)"""

_BASELINES = """
CREATE TABLE baselines (
    model_hash TEXT, data_hash TEXT, split TEXT, runtime TEXT, classes INTEGER NOT NULL, logits BLOB NOT NULL,
    PRIMARY KEY (model_hash, data_hash, split, runtime)
)"""

_FINDINGS = """
CREATE TABLE findings (
    id INTEGER PRIMARY KEY,
    time REAL NOT NULL,
    model TEXT NOT NULL, model_hash TEXT NOT NULL,
    data TEXT NOT NULL, data_hash TEXT NOT NULL, split TEXT NOT NULL, runtime TEXT NOT NULL,
    kind TEXT NOT NULL, question TEXT NOT NULL,
    done INTEGER NOT NULL, payload BLOB NOT NULL,
    versions TEXT NOT NULL,
    UNIQUE (model_hash, data_hash, split, runtime, kind, question)
)"""

TABLES = (_SETTINGS.format(name="settings", judged=""), _DETAILS, _BASELINES, _FINDINGS)

_COLUMNS_1 = (
    "id, parent, time, model, model_hash, data, data_hash, split, runtime, recipe_hash, recipe, n, accuracy, top5, "
    "loss, agreement, bytes, dense_fp32_bytes, runtime_bytes, entropy_bytes, latency_ms, measured_ms"
)

#: Takes agreement out where formats 1 and 2 called it accuracy: where the images have no labels.
UNJUDGE = f"UPDATE settings SET accuracy = NULL, top5 = NULL, loss = NULL WHERE data_hash LIKE '%{WITHOUT_LABELS}'"

#: Format → the statements that make the next one of it.
MIGRATIONS = {
    1: (
        "ALTER TABLE settings RENAME TO settings_1",
        _SETTINGS_2,
        _DETAILS,
        _FINDINGS,
        f"INSERT INTO settings ({_COLUMNS_1}) SELECT {_COLUMNS_1} FROM settings_1",
        "INSERT INTO details (setting, predictions) SELECT id, predictions FROM settings_1",
        "DROP TABLE settings_1",
    ),
    # the new table is made beside the old, since renaming the old would take the other tables' references with it
    2: (
        _SETTINGS.format(name="settings_3", judged=""),
        "INSERT INTO settings_3 SELECT * FROM settings",
        "DROP TABLE settings",
        "ALTER TABLE settings_3 RENAME TO settings",
        UNJUDGE,
    ),
}


def format_of(connection: sqlite3.Connection) -> int:
    """Return the format of an open file, 0 for an empty one."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def prepare(connection: sqlite3.Connection) -> None:
    """Make the tables, or bring those of an older format up to date; ``connection`` is in autocommit mode."""
    if format_of(connection) == FORMAT:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        present = format_of(connection)  # another process may have been first
        statements: tuple[str, ...] = TABLES if present == 0 else ()
        while 0 < present < FORMAT:
            statements += MIGRATIONS[present]
            present += 1
        for statement in statements:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
