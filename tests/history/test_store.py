"""The history keeps every measured setting, and says what is wrong with a file it can't use."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from workbench.history import FORMAT, History, HistoryError, Key, Record, present_versions

KEY = Key("m", "mh", "d", "dh", "test", "onnxruntime")
RECORD = Record("abc", "[]", 100, 0.9, 0.99, 0.3, 1.0, 1000, 4000, 4100, 900, 0.5)


def test_a_setting_measured_twice_is_one_row(tmp_path: Path) -> None:
    history = History(tmp_path / "h.sqlite")
    first = history.add(KEY, RECORD, np.arange(100) % 10, None)
    assert history.add(KEY, RECORD, np.arange(100) % 10, first) == first
    assert len(history.records(KEY)) == 1
    assert history.find(KEY, "abc").accuracy == 0.9
    assert history.find(KEY, "other") is None
    assert history.find(replace(KEY, runtime="torch"), "abc") is None


def test_predictions_and_parents_survive_reopening(tmp_path: Path) -> None:
    history = History(tmp_path / "h.sqlite")
    parent = history.add(KEY, RECORD, np.arange(100) % 10, None)
    child = history.add(KEY, replace(RECORD, recipe_hash="def"), np.zeros(100, int), parent)
    history.note_measured_latency(KEY, "def", 1.25)
    history.close()
    again = History(tmp_path / "h.sqlite")
    assert again.find(KEY, "def").parent == parent
    assert again.find(KEY, "def").measured_ms == 1.25
    assert np.array_equal(again.predictions(parent), np.arange(100) % 10)
    assert np.array_equal(again.predictions(child), np.zeros(100))
    again.close()


def test_baseline_logits_round_trip(tmp_path: Path) -> None:
    history = History(tmp_path / "h.sqlite")
    logits = np.random.default_rng(0).normal(size=(50, 10)).astype(np.float32)
    assert history.baseline_logits(KEY) is None
    history.keep_baseline_logits(KEY, logits)
    assert np.array_equal(history.baseline_logits(KEY), logits)


def test_many_threads_may_write(tmp_path: Path) -> None:
    history = History(tmp_path / "h.sqlite")
    other = History(tmp_path / "h.sqlite")

    def write(number: int) -> None:
        for index in range(10):
            target = history if number % 2 else other
            target.add(KEY, replace(RECORD, recipe_hash=f"{number}-{index}"), np.zeros(100, int), None)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(history.records(KEY)) == 40


def test_a_file_from_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {FORMAT + 1}")
    before = path.read_bytes()
    with pytest.raises(HistoryError, match="newer version"):
        History(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"not a database at all, only text" * 10, b"SQLite format 3\x00" + b"\x00" * 50])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "h.sqlite"
    path.write_bytes(content)
    with pytest.raises(HistoryError, match="cannot be opened"):
        History(path)
    assert path.read_bytes() == content


def test_an_unknown_setting_is_said(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match="no setting number 7"):
        History(tmp_path / "h.sqlite").predictions(7)


def test_a_setting_keeps_its_layers_and_what_measured_it(tmp_path: Path) -> None:
    history = History(tmp_path / "h.sqlite")
    layers = [{"name": "fc", "bytes": 400, "sparsity": 0.5, "shape": [10, 20]}]
    identity = history.add(KEY, RECORD, np.zeros(100, int), None, layers)
    history.close()
    again = History(tmp_path / "h.sqlite")
    assert again.layers(identity) == layers
    assert again.find(KEY, "abc").versions == present_versions()
    with pytest.raises(HistoryError, match="no setting number 7"):
        again.layers(7)
