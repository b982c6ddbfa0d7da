"""The settings of a history as rows of plain data: filtered, sorted, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from .store import History
from .values import HistoryError, Key, Record

#: A row's columns in a CSV file, in order.
COLUMNS = (
    "id", "parent", "name", "starred", "time", "model", "data", "split", "runtime", "n", "accuracy", "top5", "loss",
    "agreement", "bytes", "dense_fp32_bytes", "runtime_bytes", "entropy_bytes", "latency_ms", "measured_ms",
    "recipe", "recipe_hash", "deleted", "versions",
)  # fmt: skip
#: What rows can be sorted by, and whether the best or the latest comes first by descending.
SORTS: dict[str, bool] = {"time": True, "accuracy": True, "bytes": False, "latency_ms": False, "loss": False}

Row = dict[str, Any]


@dataclass(frozen=True)
class Filter:
    """Which settings are wanted; an empty text, or False, asks nothing. ``text`` is looked for in name and recipe."""

    model: str = ""
    data: str = ""
    split: str = ""
    text: str = ""
    starred: bool = False
    deleted: bool = False

    def takes_subject(self, key: Key) -> bool:
        """Return whether settings of ``key`` are wanted."""
        pairs = ((self.model, key.model), (self.data, key.data), (self.split, key.split))
        return all(wanted in ("", given) for wanted, given in pairs)

    def takes(self, record: Record) -> bool:
        """Return whether ``record`` is wanted, of a subject that is."""
        wanted = self.text.lower()
        return (record.starred or not self.starred) and (
            not wanted or wanted in record.name.lower() or wanted in record.recipe.lower()
        )


def list_settings(history: History, wanted: Filter | None = None, sort: str = "time", limit: int = 0) -> list[Row]:
    """Return the settings that ``wanted`` takes, sorted, at most ``limit`` of them (0: all).

    Raises ``HistoryError`` for a ``sort`` there is not, and where the file cannot be read.
    """
    wanted = wanted or Filter()
    if sort not in SORTS:
        raise HistoryError(f"Settings cannot be sorted by '{sort}'; there are {', '.join(SORTS)}.")
    rows = []
    for key in history.known_subjects():
        if wanted.takes_subject(key):
            records = history.deleted(key) if wanted.deleted else history.records(key)
            rows += [to_row(key, record) for record in records if wanted.takes(record)]
    descending = SORTS[sort]

    def place(row: Row) -> tuple[bool, float]:
        value = row[sort] if sort != "time" else row["seconds"]
        return value is None, (-value if descending else value) if value is not None else 0.0

    rows.sort(key=place)
    return rows[:limit] if limit else rows


def show_setting(history: History, identity: int) -> Row:
    """Return one setting with its layers, and the settings it came from, the nearest first.

    Raises ``HistoryError`` where there is none of that number.
    """
    record = history.record(identity)
    row = to_row(history.key_of(identity), record)
    return {**row, "layers": history.layers(identity), "ancestors": ancestors(history.record, record)}


def ancestors(find: Callable[[int], Record], record: Record) -> list[Row]:
    """Return what a setting came from, step by step, the nearest first; ``find`` gives a record by its number."""
    chain: list[Row] = []
    seen = {record.id}
    while record.parent is not None and record.parent not in seen:
        seen.add(record.parent)
        try:
            record = find(record.parent)
        except HistoryError:  # lost with a part of a damaged file
            break
        facts = {name: getattr(record, name) for name in ("id", "name", "accuracy", "agreement", "bytes")}
        chain.append({**facts, "recipe": json.loads(record.recipe)})
    return chain


def to_row(key: Key, record: Record) -> Row:
    """Return a setting as plain data; ``time`` is ISO 8601 in UTC, ``seconds`` the same since 1970."""
    told_otherwise = ("recipe", "time", "deleted", "versions")
    return {
        **{name: value for name, value in vars(record).items() if name not in told_otherwise},
        "recipe": json.loads(record.recipe),
        "time": _iso(record.time),
        "seconds": record.time,
        "deleted": None if record.deleted is None else _iso(record.deleted),
        "versions": dict(record.versions),
        "model": key.model,
        "data": key.data,
        "split": key.split,
        "runtime": key.runtime,
    }


def to_csv(rows: Iterable[Row]) -> str:
    """Return ``rows`` as CSV with a header; recipe and versions are JSON within their cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        packed = {name: json.dumps(row[name]) for name in ("recipe", "versions")}
        writer.writerow({**row, **packed, "starred": int(row["starred"])})
    return text.getvalue()


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
