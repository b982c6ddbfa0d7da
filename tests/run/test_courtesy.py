"""Processes let each other's first figures go first, and nobody waits for ever."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from workbench.run.courtesy import PATIENCE, PLACES, TURNS, Courtesy, stand_back


def _other(path: Path, line: Connection, place: int) -> None:
    courtesy = Courtesy(path)
    courtesy._place = place  # two processes' numbers may fall on one
    while (asked := line.recv()) != "end":
        getattr(courtesy, asked)()
        line.send("done")


class Other:
    """Another process that shares the file."""

    _after_ours = count(1)

    def __init__(self, path: Path) -> None:
        self._line, theirs = multiprocessing.Pipe()
        place = (os.getpid() + next(self._after_ours)) % PLACES
        self._process = multiprocessing.get_context("spawn").Process(target=_other, args=(path, theirs, place))
        self._process.start()

    def do(self, what: str) -> None:
        self._line.send(what)
        assert self._line.recv() == "done"

    def end(self) -> None:
        self._line.send("end")
        self._process.join(10)


def test_work_holds_back_while_someone_waits_in_another_process(tmp_path: Path) -> None:
    ours, other = Courtesy(tmp_path / "waiting"), Other(tmp_path / "waiting")
    try:
        assert not ours.wanted
        other.do("hurry")
        assert ours.wanted
        checked = threading.Event()
        start = time.monotonic()
        ours.give_way(checked.set, most=0.1)
        assert checked.is_set()
        assert time.monotonic() - start >= 0.1
        other.do("rest")
        assert not ours.wanted
    finally:
        other.end()


def test_first_figures_take_turns_and_the_longest_wait_comes_first(tmp_path: Path) -> None:
    ours, others = Courtesy(tmp_path / "waiting"), [Other(tmp_path / "waiting") for _ in range(TURNS)]
    try:
        for other in others:
            other.do("hurry")
        ours.hurry()
        assert not ours.is_turn
        others[0].do("hurry")  # it moved again, so that it waits for less long than we do
        assert ours.is_turn
    finally:
        for other in others:
            other.end()


def test_a_wait_of_ones_own_holds_nothing_back(tmp_path: Path) -> None:
    courtesy = Courtesy(tmp_path / "waiting")
    courtesy.hurry()
    assert not courtesy.wanted


def test_a_process_that_died_waiting_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, other = Courtesy(tmp_path / "waiting"), Other(tmp_path / "waiting")
    other.do("hurry")
    now = np.fromfile(tmp_path / "waiting").max()
    monkeypatch.setattr(time, "monotonic", lambda: now)  # however long the process takes to end
    other.end()
    assert ours.wanted
    monkeypatch.setattr(time, "monotonic", lambda: now + PATIENCE + 1)
    assert not ours.wanted


def test_what_check_raises_ends_the_holding_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    courtesy = Courtesy(tmp_path / "waiting")
    monkeypatch.setattr(Courtesy, "wanted", property(lambda _: True))
    with pytest.raises(KeyError):
        courtesy.give_way(lambda: {}[0], most=60)


def test_without_a_file_or_where_none_can_be_made_a_process_is_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (None, tmp_path / "file" / "waiting"):
        courtesy = Courtesy(path)
        courtesy.hurry()
        assert not courtesy.wanted
    assert os.getpid() % PLACES == courtesy._place


@pytest.mark.skipif(sys.platform != "linux", reason="priorities of threads are Linux's")
def test_a_thread_that_stands_back_lowers_only_itself_and_what_it_starts() -> None:
    def priority() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    found: list[int] = []

    def work() -> None:
        stand_back(2)
        inner = threading.Thread(target=lambda: found.append(priority()))
        inner.start()
        inner.join()
        found.append(priority())

    before = priority()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [before + 2, before + 2]
    assert priority() == before
