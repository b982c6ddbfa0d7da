"""Coding chosen encodings beside the search for the next ones."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from workbench.encodings import Coder, Dense, Encoding, Entropy, Packed


class Told(Entropy):
    """Tells on which thread it was coded."""

    def pack(self) -> bytes:
        self.__dict__.setdefault("thread", threading.current_thread())
        return super().pack()


def some(count: int) -> list[Encoding]:
    chance = np.random.default_rng(0)
    return [Told(Packed(chance.integers(0, 4, 4000).astype(np.uint8), 2)) for _ in range(count)]


def test_leaving_a_coder_all_is_coded() -> None:
    chosen = some(40)
    with Coder() as coder:
        coder.code(chosen[:20])
        coder.code(chosen[20:])
    assert all("entry" in one.__dict__ and "thread" in one.__dict__ for one in chosen)


@pytest.fixture
def begun() -> threading.Event:
    return threading.Event()


@pytest.fixture
def go_on() -> threading.Event:
    return threading.Event()


@pytest.fixture
def slow(begun: threading.Event, go_on: threading.Event) -> Encoding:
    """Return an encoding that is not coded before it may go on."""

    class Slow(Dense):
        def pack(self) -> bytes:
            begun.set()
            go_on.wait(20)
            return super().pack()

        nbytes = Encoding.nbytes

    return Slow.of(np.zeros(3, np.float32))


def test_what_is_coded_beside_is_coded_on_another_thread(
    slow: Encoding, begun: threading.Event, go_on: threading.Event
) -> None:
    (one,) = some(1)
    with Coder() as coder:
        coder.code([slow, one])
        assert begun.wait(20)  # while this thread is still inside
        go_on.set()
    assert "entry" in one.__dict__


def test_what_an_exception_leaves_undone_is_not_coded(
    slow: Encoding, begun: threading.Event, go_on: threading.Event
) -> None:
    chosen = some(3)
    coder = Coder()

    def interrupted() -> None:
        with coder:
            coder.code([slow, *chosen])
            assert begun.wait(20)
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    go_on.set()
    coder.join()
    assert not any("entry" in one.__dict__ for one in chosen)
