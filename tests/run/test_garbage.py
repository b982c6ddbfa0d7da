from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable

import pytest

from workbench.run import garbage


class Node:
    def __init__(self) -> None:
        self.itself = self


def test_what_was_alive_is_left_out_of_collections_until_the_last_release() -> None:
    before = gc.get_freeze_count()
    garbage.hold()
    garbage.hold()
    assert gc.get_freeze_count() > before
    garbage.release()
    assert gc.get_freeze_count() > 0
    garbage.release()
    assert gc.get_freeze_count() == 0 or before > 0


def test_nothing_is_collected_while_a_size_is_found() -> None:
    assert gc.isenabled()
    with garbage.put_off():
        assert not gc.isenabled()
        with garbage.put_off():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_collector_that_someone_turned_off_stays_off() -> None:
    gc.disable()
    try:
        with garbage.put_off():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_quiet_moment_leaves_out_what_has_come_to_stay_and_collects_the_rest() -> None:
    garbage.hold()
    try:
        kept, node = Node(), Node()
        seen = weakref.ref(node)
        del node
        before = gc.get_freeze_count()
        garbage.tidy()
        assert seen() is None
        assert gc.get_freeze_count() > before
        assert not any(one is kept for one in gc.get_objects())
    finally:
        garbage.release()


def test_what_was_left_out_and_became_garbage_is_collected_in_a_quiet_moment_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = Node()
    seen = weakref.ref(node)
    garbage.hold()
    try:
        del node
        garbage.tidy()
        assert seen() is not None
        monkeypatch.setattr(garbage, "WHOLE", 0.0)
        garbage.tidy()
        assert seen() is None
    finally:
        garbage.release()


def test_without_a_session_a_quiet_moment_changes_nothing() -> None:
    before = gc.get_freeze_count()
    garbage.tidy()
    assert gc.get_freeze_count() == before


class LastWord(Node):
    """Something forgotten that ends what it began once it is collected."""

    def __init__(self, say: Callable[[], None]) -> None:
        super().__init__()
        self.say = say

    def __del__(self) -> None:
        self.say()


@pytest.fixture
def lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take a lock that a failure leaves locked for this test alone."""
    monkeypatch.setattr(garbage, "_lock", threading.RLock())


def on_another_thread(do: Callable[[], None]) -> bool:
    """Return whether ``do`` comes to an end there."""
    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    thread.join(5)
    return not thread.is_alive()


@pytest.mark.usefixtures("lock")
@pytest.mark.parametrize("collect", [garbage.tidy, garbage.release])
def test_what_is_collected_may_close_a_session_and_wait_for_its_threads(collect: Callable[[], None]) -> None:
    ended: list[bool] = []

    def close() -> None:
        garbage.release()
        ended.append(on_another_thread(use))

    def use() -> None:
        with garbage.put_off():
            pass

    for _ in range(3):
        garbage.hold()
    gc.disable()
    try:
        LastWord(close)
        assert on_another_thread(collect)
        assert ended == [True]
    finally:
        gc.enable()
        for _ in range(2 if collect is garbage.tidy else 1):
            garbage.release()


@pytest.mark.usefixtures("lock")
def test_nothing_stays_left_out_where_what_is_collected_closes_the_last_session() -> None:
    before = gc.get_freeze_count()
    garbage.hold()
    gc.disable()
    try:
        LastWord(garbage.release)
        assert on_another_thread(garbage.tidy)
        assert gc.get_freeze_count() <= before
    finally:
        gc.enable()


def test_a_cycle_left_behind_is_collected_once_released() -> None:
    node = Node()
    seen = weakref.ref(node)
    garbage.hold()
    del node
    garbage.release()
    gc.collect()
    assert seen() is None
