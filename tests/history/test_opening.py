"""A history file in a bad state: one sentence, and nothing that can be saved is lost."""

from __future__ import annotations

import contextlib
import re
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from workbench.data.load import load_dataset
from workbench.history import FORMAT, History, HistoryError, Key, Record
from workbench.session import Session

KEY = Key("m", "mh", "d", "dh", "test", "onnxruntime")
RECORD = Record("abc", "[]", 1000, 0.9, 0.99, 0.3, 1.0, 1000, 4000, 4100, 900, 0.5)
#: Writes settings without end, saying each once it is kept.
WRITER = """
import sys
import numpy as np
from dataclasses import replace
from tests.history.test_opening import KEY, RECORD
from workbench.history import History

history = History(sys.argv[1])
for number in range(10_000_000):
    name = f"{sys.argv[2]}{number}"
    if number % 3:
        history.add(KEY, replace(RECORD, recipe_hash=name), np.full(1000, number % 10), None)
        print("setting", name, flush=True)
    else:
        history.keep_finding(KEY, "sensitivity", sys.argv[2], name.encode() * 5000, done=False)
        print("finding", name, flush=True)
"""


def fill(path: Path, count: int = 200) -> None:
    history = History(path)
    rng = np.random.default_rng(0)
    for number in range(count):
        predictions = rng.integers(0, 10, 1000)
        history.add(KEY, replace(RECORD, recipe_hash=f"{number}", accuracy=number / 1000), predictions, number or None)
    history.keep_finding(KEY, "sensitivity", "prune", bytes(5000), done=True)
    history.close()


def test_a_file_of_another_model_is_said_to_be_one_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "theirs.sqlite"
    fill(path, 5)
    images = np.zeros((30, 1, 28, 28), np.uint8) + np.arange(30, dtype=np.uint8)[:, None, None, None]
    data = load_dataset((images, np.arange(30) % 10))
    with Session("lenet300", data, history=str(path)) as session:
        (note,) = (note for note in session.notes if "history" in note)
        assert "The 5 settings in the history" in note
        assert "are of 'm' and none is of this 'lenet300'" in note
        session.measure()
        assert [record.recipe for record in session.records()] == ["[]"]
    with Session("lenet300", data, history=str(path)) as session:
        assert not any("history" in note for note in session.notes)
    assert len(History(path).records(KEY)) == 5


def moved(folder: Path) -> list[Path]:
    return sorted(folder.glob("h.damaged-*.sqlite"))


def test_a_file_from_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    fill(path, 3)
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {FORMAT + 1}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(HistoryError, match="newer version"):
        History(path)
    assert path.read_bytes() == before


def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "cookies.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE cookies (name TEXT)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(HistoryError, match="another program"):
        History(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"not a database at all, only text" * 10)
    with pytest.raises(HistoryError, match=r"is not a history file and was left alone"):
        History(path)
    assert path.read_bytes() == b"not a database at all, only text" * 10


def test_the_persons_own_file_is_replaced_whatever_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path))
    (tmp_path / "history.sqlite").write_bytes(bytes(5000))
    history = History()
    assert re.fullmatch(
        r"The history file was damaged and moved to .*; nothing in it could be read, .*", *history.notes
    )
    history.add(KEY, RECORD, np.zeros(9, int), None)
    history.close()
    assert History().notes == ()
    assert len(list(tmp_path.glob("history.damaged-*"))) == 1


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_of_a_truncated_file_what_is_left_is_saved(tmp_path: Path, share: float) -> None:
    path = tmp_path / "h.sqlite"
    fill(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    history = History(path)
    (note,) = history.notes
    assert "was damaged and moved to" in note
    (aside,) = moved(tmp_path)
    assert aside.stat().st_size == int(len(whole) * share)
    saved = history.records(KEY)
    assert len(saved) > 200 * share * 0.6, "most of what is left"
    assert f"{len(saved) + len(history.findings(KEY)):,} of its settings and findings" in note
    assert all(record.accuracy == int(record.recipe_hash) / 1000 for record in saved)
    history.close()
    assert History(path).notes == ()


def test_of_a_file_with_a_page_overwritten_the_rest_is_saved(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    fill(path)
    content = bytearray(path.read_bytes())
    at = len(content) // 4096 // 2 * 4096
    content[at : at + 4096] = b"\xff" * 4096
    path.write_bytes(content)
    history = History(path)
    assert "was damaged and moved" in history.notes[0]
    saved = history.records(KEY)
    assert len(saved) >= 150
    readable = 0
    for record in saved:
        try:
            assert len(history.predictions(record.id)) == 1000
            readable += 1
        except HistoryError:
            pass
    assert readable >= 100


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A history whose rows go on in chains of pages: predictions, layers, logits and a sweep that grew meanwhile."""
    path = tmp_path_factory.mktemp("large") / "h.sqlite"
    history = History(path)
    rng = np.random.default_rng(0)
    history.keep_baseline_logits(KEY, rng.normal(size=(10_000, 10)).astype(np.float32))
    layers = [{"name": f"layer{number}", "bytes": int(rng.integers(10**6))} for number in range(40)]
    for number in range(240):
        record = replace(RECORD, recipe_hash=f"{number}", recipe=f"[{number}]" + " " * (number % 5 * 2000))
        history.add(KEY, record, rng.integers(0, 10, 10_000), number or None, layers)
        if number % 20 == 0:
            history.keep_finding(KEY, "sensitivity", "prune", rng.bytes(20_000 + 500 * number), done=False)
    history.close()
    return path.read_bytes()


def whole(history: History) -> int:
    """Return how many settings have all that they were kept with."""
    count = 0
    for record in history.records(KEY):
        with contextlib.suppress(HistoryError):
            count += len(history.predictions(record.id)) == 10_000 and len(history.layers(record.id)) == 40
    return count


def test_wherever_a_file_of_large_rows_is_cut_every_row_before_the_cut_is_saved(tmp_path: Path, large: bytes) -> None:
    pages = len(large) // 4096
    for cut in [*np.linspace(0.12, 0.99, 8)]:
        path = tmp_path / f"cut{cut:.3f}.sqlite"
        path.write_bytes(large[: int(cut * len(large)) + 1234])
        history = History(path)
        least = 240 * (cut * pages - 110) / (pages - 110)  # the first 110 pages are the logits
        assert len(history.records(KEY)) >= least - 3, cut
        assert whole(history) >= least - 5, cut
        assert history.baseline_logits(KEY).shape == (10_000, 10)
        history.close()


def test_rows_that_no_tree_leads_to_any_more_are_saved(
    tmp_path: Path, large: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path))
    content = bytearray(large)
    content[:4096] = bytes(4096)  # what tables there are
    for at in range(0, len(content), 4096):
        if content[at] == 0x05:  # a page of a table's tree above its leaves
            content[at : at + 4096] = b"\xff" * 4096
    (tmp_path / "history.sqlite").write_bytes(content)
    history = History()
    assert "was damaged" in history.notes[0]
    assert len(history.records(KEY)) == whole(history) == 240
    assert [record.recipe.strip() for record in history.records(KEY)] == [f"[{number}]" for number in range(240)]
    assert len(history.findings(KEY)) == 1
    history.close()


@pytest.mark.parametrize("format_1", [False, True])
def test_a_read_only_file_is_shown_and_not_touched(tmp_path: Path, format_1: bool) -> None:
    path = tmp_path / "h.sqlite"
    key, count = KEY, 5
    if format_1:
        shutil.copy(Path(__file__).with_name("format1.sqlite"), path)
        key, count = Key("lenet300", "mh", "fashion_mnist", "dh:scale", "test", "onnxruntime"), 2
    else:
        fill(path, count)
    path.chmod(0o444)
    before = path.read_bytes()
    history = History(path)
    assert "is read-only: it is shown, and what is new is kept for this session only." in history.notes[0]
    assert not history.lasting
    assert len(history.records(key)) == count
    history.add(key, replace(RECORD, recipe_hash="new"), np.zeros(9, int), None)
    assert len(history.records(key)) == count + 1
    history.close()
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["h.sqlite"]


def test_damage_met_while_open_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    fill(path)
    history = History(path)
    history._connection.execute("PRAGMA cache_size = 0")
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    with pytest.raises(HistoryError, match="Open it anew"):
        _ = [history.predictions(number) for number in range(1, 200)]
    history.close()


def test_nothing_said_to_be_kept_is_lost_by_kill_9_and_two_may_write_at_once(tmp_path: Path) -> None:
    """Two processes write into one file, and both are killed in the midst of it."""
    path = tmp_path / "h.sqlite"
    said: dict[str, list[str]] = {"a": [], "b": []}
    writers = {
        name: subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), name],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for name in said
    }
    for name, writer in writers.items():
        while len(said[name]) < 60:
            said[name].append(writer.stdout.readline().strip())
    for name, writer in writers.items():
        writer.kill()
        said[name] += writer.communicate()[0].split("\n")[:-1]
    history = History(path)
    assert history.notes == ()
    kept = {record.recipe_hash for record in history.records(KEY)}
    for name, lines in said.items():
        told = [line.split() for line in lines]
        assert {word for what, word in told if what == "setting"} <= kept
        last = int([word for what, word in told if what == "finding"][-1].removeprefix(name))
        payload = history.finding(KEY, "sensitivity", name).payload
        word = payload[: len(payload) // 5000].decode()
        assert payload == word.encode() * 5000
        assert int(word.removeprefix(name)) >= last
