"""What is worked out once: kept by each object, and never waited for."""

from __future__ import annotations

import threading

from workbench.encodings.once import once


class Slow:
    """Its value is there once it is let go."""

    def __init__(self, ready: threading.Event) -> None:
        self.ready = ready
        self.begun = threading.Event()
        self.computed = 0

    @once
    def value(self) -> int:
        """How often it was computed."""
        self.begun.set()
        assert self.ready.wait(10)
        self.computed += 1
        return self.computed


def test_each_object_computes_its_value_once() -> None:
    ready = threading.Event()
    ready.set()
    first, second = Slow(ready), Slow(ready)
    assert [first.value, first.value, second.value] == [1, 1, 1]
    assert first.computed == second.computed == 1
    assert Slow.value.__doc__ == "How often it was computed."


def test_one_object_does_not_wait_for_another() -> None:
    at_once, later = threading.Event(), threading.Event()
    at_once.set()
    slow, quick = Slow(later), Slow(at_once)
    thread = threading.Thread(target=lambda: slow.value)
    thread.start()
    assert slow.begun.wait(10)
    assert quick.value == 1
    assert slow.computed == 0
    later.set()
    thread.join()
    assert slow.value == 1
