"""A file of an older format becomes one of the present, with everything in it."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from workbench.history import FORMAT, History, HistoryError, Key
from workbench.history.schema import MIGRATIONS, format_of

#: Written by the version of 2026-11-28, the last that wrote format 1: three settings, one baseline.
FORMAT_1 = Path(__file__).with_name("format1.sqlite")
#: Written by the last version that wrote format 2: two settings of labelled images, two of unlabelled ones.
FORMAT_2 = Path(__file__).with_name("format2.sqlite")
KEY = Key("lenet300", "mh", "fashion_mnist", "dh:scale", "test", "onnxruntime")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copy(FORMAT_1, tmp_path / "history.sqlite"))


def test_format_1_loses_nothing(old: Path) -> None:
    history = History(old)
    dense, half = history.records(KEY)
    assert (dense.recipe_hash, dense.accuracy, dense.parent) == ("dense", 0.9, None)
    assert (half.recipe, half.parent, half.measured_ms, half.top5) == (
        '[{"prune":{"ratio":0.5}}]',
        dense.id,
        0.25,
        None,
    )
    assert (half.name, half.starred, half.deleted, dict(half.versions)) == ("", False, None, {})
    assert np.array_equal(history.predictions(half.id), np.arange(100) % 7)
    assert np.array_equal(history.baseline_logits(KEY), np.arange(1000, dtype=np.float32).reshape(100, 10))
    other = Key("lenet5", "other", *(KEY.data, KEY.data_hash, KEY.split, KEY.runtime))
    assert [record.accuracy for record in history.records(other)] == [0.95]
    assert history.layers(half.id) == []
    history.close()


def test_format_2_loses_nothing_but_agreement_called_accuracy(tmp_path: Path) -> None:
    path = Path(shutil.copy(FORMAT_2, tmp_path / "history.sqlite"))
    history = History(path)
    dense, half = history.records(KEY)
    assert (dense.accuracy, dense.top5, dense.loss, dense.judged) == (0.9, 0.99, 0.3, "accuracy")
    assert (half.name, half.starred, half.parent, half.score) == ("mine", True, dense.id, 0.8)
    assert history.layers(half.id) == [{"name": "fc", "bytes": 10, "sparsity": 0.0, "bits": 8}]
    assert np.array_equal(history.predictions(half.id), np.arange(100) % 7)
    assert history.finding(KEY, "sensitivity", "q").payload == b"payload"
    unlabelled = Key("lenet300", "mh", "images", "ih:unlabelled", "test", "onnxruntime")
    (left,), (gone,) = history.records(unlabelled), history.deleted(unlabelled)
    assert left.accuracy is left.top5 is left.loss is gone.accuracy is None
    assert (gone.agreement, gone.score, gone.judged, gone.parent) == (0.75, 0.75, "agreement", left.id)
    history.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


@pytest.mark.parametrize("before", [FORMAT_1, FORMAT_2], ids=["format 1", "format 2"])
def test_a_migrated_file_has_the_tables_of_a_new_one(before: Path, tmp_path: Path) -> None:
    def tables(path: Path) -> dict[str, list[tuple[object, ...]]]:
        History(path).close()
        with sqlite3.connect(path) as connection:
            names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            assert format_of(connection) == FORMAT
            return {
                name: connection.execute(f"PRAGMA table_info({name})").fetchall()
                + connection.execute(f"PRAGMA foreign_key_list({name})").fetchall()
                for (name,) in names
            }

    old = Path(shutil.copy(before, tmp_path / "history.sqlite"))
    assert tables(old) == tables(tmp_path / "new.sqlite")


def test_a_migration_that_fails_leaves_the_old_file(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MIGRATIONS, 1, (*MIGRATIONS[1], "DROP TABLE no_such_table"))
    with pytest.raises(HistoryError, match="cannot be opened"):
        History(old)
    monkeypatch.undo()
    with sqlite3.connect(old) as connection:
        assert format_of(connection) == 1
        assert connection.execute("SELECT count(*) FROM settings").fetchone() == (3,)
    assert len(History(old).records(KEY)) == 2
