from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.widgets.fake_session import FakeSession
from widgets.base.feed import Feed, listen
from workbench.recipe import Recipe


class Drawn:
    """Collects what was drawn and lets a test wait for it."""

    def __init__(self) -> None:
        self.snapshots: list[Any] = []
        self._changed = threading.Condition()

    def __call__(self, snapshot: Any) -> None:
        with self._changed:
            self.snapshots.append(snapshot)
            self._changed.notify_all()

    def wait_for(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.snapshots) >= count, 10)


def test_a_new_listener_is_drawn_at_once_with_the_present_snapshot(session: FakeSession) -> None:
    drawn = Drawn()
    leave = listen(session, drawn)
    drawn.wait_for(1)
    leave()
    assert drawn.snapshots == [session.snapshot]


@pytest.mark.parametrize("closed", [False, True])
def test_what_a_view_cannot_draw_is_logged_unless_its_session_was_closed(
    session: FakeSession, caplog: pytest.LogCaptureFixture, closed: bool
) -> None:
    after = Drawn()

    def fail(snapshot: Any) -> None:
        raise RuntimeError("The database is closed.")

    if closed:
        session.close()
    leaves = listen(session, fail), listen(session, after)
    after.wait_for(1)
    for leave in leaves:
        leave()
    assert bool(caplog.records) is not closed


def test_what_was_replaced_before_it_was_drawn_is_never_drawn(session: FakeSession) -> None:
    drawn, entered, free = Drawn(), threading.Event(), threading.Event()

    def slow(snapshot: Any) -> None:
        drawn(snapshot)
        entered.set()
        assert free.wait(10)

    leave = listen(session, slow)
    assert entered.wait(10)
    while session.step():
        pass
    free.set()
    drawn.wait_for(2)
    leave()
    assert [snapshot.settled for snapshot in drawn.snapshots] == [False, True]


def test_an_older_generation_is_refused(session: FakeSession) -> None:
    drawn = Drawn()
    feed = Feed(session)  # type: ignore[arg-type]
    feed.add(drawn)
    drawn.wait_for(1)
    old = session.snapshot
    session.apply(Recipe.parse("- quantize: {bits: 4}"))
    session.step()
    drawn.wait_for(2)
    feed.offer(old)
    session.step()
    drawn.wait_for(3)
    feed.cancel()
    generations = [snapshot.generation for snapshot in drawn.snapshots]
    assert generations == sorted(generations)


def test_all_views_of_a_session_share_one_thread_that_ends_with_the_last(session: FakeSession) -> None:
    before = set(threading.enumerate())  # views that other tests left behind have threads of their own
    leaves = [listen(session, Drawn()) for _ in range(4)]
    (thread,) = (one for one in set(threading.enumerate()) - before if one.name == "workbench-feed")
    for leave in leaves:
        leave()
    thread.join(10)
    assert not thread.is_alive()


def test_a_broken_view_does_not_silence_the_others(session: FakeSession, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: Any) -> None:
        raise RuntimeError("canvas on fire")

    drawn = Drawn()
    leaves = [listen(session, broken), listen(session, drawn)]
    session.step()
    drawn.wait_for(1)
    for leave in leaves:
        leave()
    assert "canvas on fire" in caplog.text


def test_a_patient_view_lets_the_first_accuracy_go_before_it(session: FakeSession) -> None:
    drawn = Drawn()
    leave = listen(session, drawn, patience=60)
    drawn.wait_for(1)
    session.apply(Recipe.parse("- quantize: {bits: 4}"))
    session.step()
    session.step()
    drawn.wait_for(2)
    leave()
    assert [snapshot.accuracy is None for snapshot in drawn.snapshots] == [True, False]


def test_a_patient_view_waits_longer_while_others_wait_for_their_first_figures(
    session: FakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("widgets.base.feed.CROWDED", 60)
    drawn = Drawn()
    session.crowded = True
    leave = listen(session, drawn, patience=0.01)
    drawn.wait_for(1)
    session.apply(Recipe.parse("- quantize: {bits: 4}"))
    session.step()
    session.apply(Recipe.parse("- quantize: {bits: 5}"))
    session.step()
    session.crowded = False
    drawn.wait_for(2)
    leave()
    last = drawn.snapshots[-1]
    assert [snapshot.generation for snapshot in drawn.snapshots] == [0, last.generation], "the first move is not drawn"
    assert last.accuracy is None


def test_patience_ends_where_no_accuracy_comes(session: FakeSession) -> None:
    drawn = Drawn()
    leave = listen(session, drawn, patience=0.05)
    drawn.wait_for(1)
    session.apply(Recipe.parse("- quantize: {bits: 4}"))
    session.step()
    drawn.wait_for(2)
    leave()
    assert drawn.snapshots[1].accuracy is None


def test_a_slow_patient_view_never_holds_up_those_without_patience(session: FakeSession) -> None:
    drawn, slow = Drawn(), Drawn()
    entered, free = threading.Event(), threading.Event()

    def block(snapshot: Any) -> None:
        slow(snapshot)
        entered.set()
        assert free.wait(30)

    leaves = [listen(session, drawn), listen(session, block, patience=0.01)]
    assert entered.wait(10)
    drawn.wait_for(1)
    for text in ("- quantize: {bits: 4}", "- quantize: {bits: 3}"):
        session.apply(Recipe.parse(text))
        while session.step():  # each is drawn while the slow view is still busy with the first
            drawn.wait_for(len(drawn.snapshots) + (drawn.snapshots[-1] is not session.snapshot))
    assert len(slow.snapshots) == 1
    free.set()
    slow.wait_for(2)
    for leave in leaves:
        leave()
    assert slow.snapshots[-1] is session.snapshot
    assert drawn.snapshots[-1] is session.snapshot


def test_in_a_burst_of_looks_no_view_goes_back_and_all_end_with_the_newest(session: FakeSession) -> None:
    views = [Drawn() for _ in range(6)]
    leaves = [listen(session, view, patience) for view, patience in zip(views, (0.0, 0.01) * 3, strict=True)]
    for bits in (8, 7, 6, 5, 4, 3, 2, 1) * 25:
        session.apply(Recipe.parse(f"- quantize: {{bits: {bits}}}"))
        while session.step():
            pass
    last = session.snapshot
    for view in views:
        with view._changed:
            assert view._changed.wait_for(lambda view=view: view.snapshots[-1:] == [last], 30)
    for leave in leaves:
        leave()
    for view in views:
        generations = [snapshot.generation for snapshot in view.snapshots]
        assert generations == sorted(generations)
