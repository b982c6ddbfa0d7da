"""Every executor does each task once and gives the same results; workers that die are replaced."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from workbench.errors import WorkbenchError
from workbench.run.executor import Inline, Processes, Threads, executor_for


@dataclass(frozen=True)
class Squares:
    """Squares numbers; the first worker to see ``deadly`` dies of it, once ``mark`` is there no more."""

    deadly: int = -1
    mark: str = ""

    def open(self) -> Callable[[int], int]:
        def do(number: int) -> int:
            if number == self.deadly and not Path(self.mark).exists():
                Path(self.mark).touch()
                os._exit(1)
            return number * number

        return do


def results(executor: Inline | Threads | Processes, kit: Squares, count: int) -> list[tuple[int, int]]:
    crew = executor.open(kit)
    try:
        return sorted(crew.run(range(count)))
    finally:
        crew.close()


@pytest.mark.parametrize("executor", [Inline(), Threads(3)], ids=["inline", "threads"])
def test_each_task_is_done_once(executor: Inline | Threads) -> None:
    assert results(executor, Squares(), 25) == [(number, number * number) for number in range(25)]
    assert results(executor, Squares(), 0) == []


def test_a_process_that_dies_is_replaced_and_nothing_is_done_twice(tmp_path: Path) -> None:
    kit = Squares(deadly=3, mark=str(tmp_path / "died"))
    assert results(Processes(2), kit, 12) == [(number, number * number) for number in range(12)]
    assert (tmp_path / "died").exists()


def test_a_scheduler_that_is_not_there_is_one_sentence_at_once() -> None:
    start = time.monotonic()
    with pytest.raises(WorkbenchError, match=r"No scheduler answers at tcp://127\.0\.0\.1:9"):
        executor_for("127.0.0.1:9")
    with pytest.raises(WorkbenchError, match="is no scheduler's address"):
        executor_for("tcp://here")
    assert time.monotonic() - start < 10


def test_a_kit_that_cannot_be_copied_is_one_sentence() -> None:
    class Odd(Squares):
        def __reduce__(self) -> Iterator[int]:
            raise TypeError("it holds a lock")

    with pytest.raises(WorkbenchError, match=r"cannot be sent to other processes \(it holds a lock\)"):
        Processes(1).open(Odd())
