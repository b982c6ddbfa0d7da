"""The history keeps every measured setting, and says what is wrong with a file it can't use."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from workbench.history import History, HistoryError, Key, Record, present_versions

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
    again.add(KEY, RECORD, np.ones(100, int), None, [{"name": "fc", "bytes": 500}])
    assert again.layers(identity) == [{"name": "fc", "bytes": 500}]
    again.add(KEY, RECORD, np.ones(100, int), None)
    assert again.layers(identity) == [{"name": "fc", "bytes": 500}]
    assert not again.predictions(identity).any()
    with pytest.raises(HistoryError, match="no setting number 7"):
        again.layers(7)


def test_names_stars_and_deletions_last(tmp_path: Path) -> None:
    history = History(tmp_path / "h.sqlite")
    first, second = (history.add(KEY, replace(RECORD, recipe_hash=name), np.zeros(9, int), None) for name in "ab")
    history.rename(first, "  the one\nfor the board ")
    history.star(first)
    history.delete(second)
    history.close()
    again = History(tmp_path / "h.sqlite")
    (kept,) = again.records(KEY)
    assert (kept.id, kept.name, kept.starred) == (first, "the one for the board", True)
    assert [record.id for record in again.deleted(KEY)] == [second]
    again.restore(second)
    assert [record.id for record in again.records(KEY)] == [first, second]
    assert again.deleted(KEY) == []


def test_a_change_of_several_settings_is_made_to_all_or_none(tmp_path: Path) -> None:
    history = History(tmp_path / "h.sqlite")
    known = history.add(KEY, RECORD, np.zeros(9, int), None)
    with pytest.raises(HistoryError, match="no setting number 7"):
        history.delete(known, 7)
    assert [record.id for record in history.records(KEY)] == [known]


def test_a_deleted_setting_that_is_measured_again_comes_back() -> None:
    history = History(":memory:")
    known = history.add(KEY, RECORD, np.zeros(9, int), None)
    history.delete(known)
    assert history.add(KEY, RECORD, np.zeros(9, int), None) == known
    assert [record.id for record in history.records(KEY)] == [known]


def test_subjects_tell_what_else_the_file_holds() -> None:
    history = History(":memory:")
    for name in "ab":
        history.add(KEY, replace(RECORD, recipe_hash=name), np.zeros(9, int), None)
    other = replace(KEY, model="other", model_hash="oh")
    identity = history.add(other, RECORD, np.zeros(9, int), None)
    assert history.subjects() == [(other, 1), (KEY, 2)]
    assert history.key_of(identity) == other
