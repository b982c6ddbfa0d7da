"""Jobs: how far they have come, and how they end."""

from __future__ import annotations

import threading

import pytest

from workbench.errors import WorkbenchError
from workbench.jobs import Job, Progress


def test_what_is_left_is_told_once_more_than_the_start_is_done() -> None:
    seen: list[Progress] = []

    def work(job: Job[None]) -> None:
        for done in (0.01, 0.5, 1.0):
            job.advance(done)
            seen.append(job.progress)

    Job("steps", work).result()
    assert [progress.left is None for progress in seen] == [True, False, False]
    assert seen[1].left == pytest.approx(seen[1].seconds, rel=0.5)
    assert seen[2].left == 0


def test_time_spent_waiting_does_not_count_towards_what_is_left() -> None:
    def work(job: Job[float | None]) -> float | None:
        threading.Event().wait(0.05)
        job.waited(0.05)
        job.advance(0.5)
        return job.progress.left

    left = Job("waits", work).result()
    assert left is not None
    assert left < 0.03


def test_a_cancelled_job_ends_at_its_next_check() -> None:
    started = threading.Event()

    def work(job: Job[None]) -> None:
        started.set()
        while True:
            job.check()

    job = Job("endless", work)
    started.wait(5)
    job.cancel()
    with pytest.raises(WorkbenchError):
        job.result()
    assert job.progress.state == "cancelled"
