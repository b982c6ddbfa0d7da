"""Widgets without a browser: a comm that counts messages and bytes instead of sending them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import comm
import pytest
from comm.base_comm import BaseComm

from tests.widgets.fake_session import FakeSession


class CountingComm(BaseComm):
    """Keeps what would have gone to the page."""

    sent: list[tuple[dict[str, Any], int]]

    def publish_msg(self, msg_type: str, data: Any = None, metadata: Any = None, buffers: Any = None, **_: Any) -> None:
        if msg_type == "comm_msg":
            size = len(json.dumps(data)) + sum(memoryview(buffer).nbytes for buffer in buffers or ())
            wire.append((data, size))


#: What was sent since the test began: each message's content and bytes.
wire: list[tuple[dict[str, Any], int]] = []


@pytest.fixture(autouse=True)
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, Any], int]]:
    monkeypatch.setattr(comm, "create_comm", CountingComm)
    wire.clear()
    return wire


@pytest.fixture
def session() -> Iterator[FakeSession]:
    """A Session whose Snapshots are emitted one at a time by ``step()``."""
    session = FakeSession(auto=False)
    yield session
    session.close()


@pytest.fixture
def live() -> Iterator[FakeSession]:
    """A Session that emits its Snapshots by itself."""
    session = FakeSession()
    yield session
    session.close()


def wait_until(view: Any, trait: str, holds: Callable[[Any], bool], seconds: float = 10) -> Any:
    """Return the trait's value once ``holds(value)`` and it has been sent; fail after ``seconds``."""
    reached = threading.Event()

    def look(_: Any = None) -> None:
        if holds(getattr(view, trait)):
            reached.set()

    view.observe(look, trait)
    look()
    try:
        assert reached.wait(seconds), f"{trait} stayed {getattr(view, trait)!r}"
    finally:
        view.unobserve(look, trait)
    with getattr(view, "_lock", nullcontext()):  # a View sends what it set before it lets go of its lock
        return getattr(view, trait)


def move(view: Any, **changes: Any) -> None:
    """Do what a slider on the page does."""
    seq = view.state.get("seq", 0) + 1
    view.set_state({"state": {**view.state, **changes, "touched": list(changes), "seq": seq}})
