from __future__ import annotations

import gc
import weakref

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


def test_a_cycle_left_behind_is_collected_once_released() -> None:
    node = Node()
    seen = weakref.ref(node)
    garbage.hold()
    del node
    garbage.release()
    gc.collect()
    assert seen() is None
