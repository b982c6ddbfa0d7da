from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workbench.cli import main
from workbench.history import History, HistoryError, Key, Record
from workbench.history.table import Filter, list_settings, show_setting, to_csv

ONE = Key("lenet5", "m1", "fashion_mnist", "d1", "test", "onnxruntime")
TWO = Key("resnet20", "m2", "digits", "d2", "validation", "torch")


def record(bits: int, accuracy: float) -> Record:
    recipe = json.dumps([{"quantize": {"bits": bits}}])
    return Record(f"h{bits}", recipe, 100, accuracy, None, 0.2, 0.9, 1000 * bits, 32_000, None, None, 0.1 * bits)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a history of two subjects: settings 1 to 3 of one, each from the one before, and 4 of another."""
    path = tmp_path / "history.sqlite"
    history = History(path)
    parent = None
    for bits, accuracy in ((8, 0.91), (4, 0.90), (2, 0.5)):
        layers = [{"name": "fc", "bytes": 10 * bits, "sparsity": 0.0, "bits": bits}]
        parent = history.add(ONE, record(bits, accuracy), np.zeros(100, int), parent, layers)
    history.add(TWO, record(8, 0.99), np.zeros(100, int), None)
    history.rename(2, "a good one, = the best")
    history.star(2)
    history.close()
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """Return what a verb printed as JSON."""
    assert main(["history", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_settings_are_filtered_and_sorted(path: Path) -> None:
    history = History(path)
    assert {row["id"] for row in list_settings(history)} == {1, 2, 3, 4}
    assert [row["id"] for row in list_settings(history, Filter(model="lenet5"), "accuracy")] == [1, 2, 3]
    assert [row["id"] for row in list_settings(history, Filter(data="fashion_mnist"), "bytes", 2)] == [3, 2]
    assert [row["id"] for row in list_settings(history, Filter(text="GOOD"))] == [2]
    assert [row["id"] for row in list_settings(history, Filter(text='"bits": 2'))] == [3]
    assert [row["id"] for row in list_settings(history, Filter(starred=True))] == [2]
    with pytest.raises(HistoryError, match="cannot be sorted by 'beauty'; there are time, accuracy"):
        list_settings(history, sort="beauty")


def test_a_setting_is_shown_with_its_layers_and_where_it_came_from(path: Path) -> None:
    shown = show_setting(History(path), 3)
    assert [one["id"] for one in shown["ancestors"]] == [2, 1]
    assert shown["layers"][0]["bytes"] == 20
    assert shown["model"] == "lenet5"
    with pytest.raises(HistoryError, match="no setting number 9"):
        show_setting(History(path), 9)


def test_csv_comes_back_as_it_was(path: Path) -> None:
    rows = list_settings(History(path))
    back = list(csv.DictReader(io.StringIO(to_csv(rows))))
    assert [int(row["id"]) for row in back] == [row["id"] for row in rows]
    named = next(row for row in back if row["id"] == "2")
    assert named["name"] == "a good one, = the best"
    assert json.loads(named["recipe"]) == [{"quantize": {"bits": 4}}]
    assert (float(named["accuracy"]), named["starred"], named["top5"]) == (0.9, "1", "")


def test_the_verb_lists_names_stars_deletes_and_restores(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = ("--history", str(path))
    assert [row["id"] for row in run(capsys, "list", *own, "--sort", "accuracy")["settings"]] == [4, 1, 2, 3]
    assert run(capsys, "name", "1", "first", *own)["settings"][0]["name"] == "first"
    assert run(capsys, "star", "1", "3", *own)["settings"][1]["starred"] is True
    assert run(capsys, "unstar", "1", *own)["settings"][0]["starred"] is False
    run(capsys, "delete", "1", "4", *own)
    assert {row["id"] for row in run(capsys, "list", *own)["settings"]} == {2, 3}
    assert {row["id"] for row in run(capsys, "list", "--deleted", *own)["settings"]} == {1, 4}
    run(capsys, "restore", "4", *own)
    assert {row["id"] for row in run(capsys, "list", *own)["settings"]} == {2, 3, 4}
    assert run(capsys, "show", "3", *own)["ancestors"][0]["name"].startswith("a good one")


def test_the_verb_exports_and_speaks_to_people(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "settings.csv"
    assert main(["history", "export", str(target), "--history", str(path), "--starred"]) == 0
    assert len(target.read_text().splitlines()) == 2
    capsys.readouterr()
    assert main(["history", "list", "--history", str(path), "--model", "lenet5"]) == 0
    printed = capsys.readouterr().out
    assert "★ a good one, = the best: {quantize: {bits: 4}}" in printed
    assert main(["history", "show", "3", "--history", str(path)]) == 0
    assert "from 2: 90.00%" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("show", "99"), "The history has no setting number 99."),
        (("show", "99999999999999999999"), "The history has no setting of so large a number."),
        (("star", "1", "99999999999999999999"), "The history has no setting of so large a number."),
        (("star", "1", "99"), "The history has no setting number 99."),
        (("delete", "1", "99"), "The history has no setting number 99."),
        (("export", "/no/such/folder/x.csv"), "cannot be written"),
    ],
)
def test_bad_input_ends_with_a_sentence_and_changes_nothing(
    path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], sentence: str
) -> None:
    assert main(["history", *arguments, "--history", str(path)]) == 2
    assert sentence in capsys.readouterr().err
    history = History(path)
    assert len(list_settings(history)) == 4
    assert not history.record(1).starred


@pytest.mark.parametrize("arguments", [("star", "1"), ("name", "1", "best"), ("delete", "1")])
def test_a_read_only_file_is_not_said_to_be_changed(
    path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    path.chmod(0o444)
    assert main(["history", *arguments, "--history", str(path)]) == 2
    assert "is read-only, so nothing in it can be changed" in capsys.readouterr().err


def test_a_history_file_that_is_not_there_is_not_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", "list", "--history", str(tmp_path / "none.sqlite")]) == 2
    assert "There is no history file" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
