"""A sweep gives the same figures to the digit wherever it runs, and goes on from what was measured before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from workbench.analyze.finding import MEASURED, Sensitivity
from workbench.analyze.keeping import pack_sensitivity, unpack_sensitivity
from workbench.analyze.sensitivity import measure_sensitivity
from workbench.errors import WorkbenchError
from workbench.run.executor import Inline
from workbench.session import Session

VALUES = [0.5, 0.8, 0.95]


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with Session("lenet5", "fashion_mnist", history=":memory:") as opened:
        opened.measure()
        yield opened


@pytest.fixture(scope="module")
def here(session: Session) -> Sensitivity:
    return measure_sensitivity(session, values=VALUES, tolerance=0.01).result()


def assert_same(ours: Sensitivity, theirs: Sensitivity) -> None:
    for name in ("value", "low", "high", "n"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    for name in MEASURED:
        np.testing.assert_array_equal(ours.measured[name], theirs.measured[name])


def test_threads_and_one_task_after_the_other_agree_to_the_digit(session: Session, here: Sensitivity) -> None:
    assert_same(measure_sensitivity(session, values=VALUES, tolerance=0.01, executor=Inline()).result(), here)


def test_processes_agree_to_the_digit(session: Session, here: Sensitivity) -> None:
    assert_same(measure_sensitivity(session, values=VALUES, tolerance=0.01, executor="processes").result(), here)


def test_a_cancelled_sweep_goes_on_from_its_bytes_and_ends_as_if_it_had_run_through(
    session: Session, here: Sensitivity
) -> None:
    job, stopped = measure_sensitivity(session, values=VALUES, tolerance=0.01), threading.Event()

    def stop_early(_: object) -> None:
        if job.latest and job.latest.known and (job.latest.n < here.n).any():
            job.cancel()
            stopped.set()

    job.subscribe(stop_early)
    assert stopped.wait(60)
    assert job.wait(10)
    assert job.latest is not None
    before = unpack_sensitivity(pack_sensitivity(job.latest))
    assert_same(before, job.latest)
    assert before.question == here.question
    counted = Counting()
    again = measure_sensitivity(session, values=VALUES, tolerance=0.01, start=before, executor=counted).result()
    assert_same(again, here)
    assert counted.images == (here.n - before.n).sum()  # nothing was run a second time


def test_a_finished_sweep_started_again_runs_nothing(session: Session, here: Sensitivity) -> None:
    counted = Counting()
    again = measure_sensitivity(session, values=VALUES, tolerance=0.01, start=here, executor=counted).result()
    assert_same(again, here)
    assert counted.images == 0


def test_what_was_asked_otherwise_or_of_other_images_is_not_taken_over(session: Session, here: Sensitivity) -> None:
    other = replace(here, question=replace(here.question, settings={"norm": "l2"}))
    assert here.answers is not None
    shuffled = replace(here, answers=replace(here.answers, order="another"))
    for before in (other, shuffled):
        counted = Counting()
        measure_sensitivity(session, values=[0.5], tolerance=0.05, start=before, executor=counted).result()
        assert counted.images > 0


def test_kept_bytes_that_are_damaged_are_one_sentence(here: Sensitivity) -> None:
    content = pack_sensitivity(here)
    for broken in (content[: len(content) // 2], b"", b"nonsense"):
        with pytest.raises(WorkbenchError, match="cannot be read, so it is measured anew"):
            unpack_sensitivity(broken)


class Counting(Inline):
    """Counts how many images are run through cells."""

    images = 0

    def open(self, kit):  # type: ignore[no-untyped-def]
        crew = super().open(kit)
        do = crew._do

        def count(piece):  # type: ignore[no-untyped-def]
            self.images += sum(len(columns) for _, columns in piece.cells) * (piece.last - piece.first)
            return do(piece)

        crew._do = count
        return crew


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler and two workers, each a process of its own."""
    folder = tmp_path_factory.mktemp("cluster")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}

    def start(*command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "distributed.cli." + command[0], *command[1:]],
            cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    file = folder / "scheduler.json"
    scheduler = start(
        "dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)
    )
    workers: list[subprocess.Popen[bytes]] = []
    try:
        while not file.exists():
            assert scheduler.poll() is None
            time.sleep(0.05)
        import json

        address = json.loads(file.read_text())["address"]
        workers += [
            start("dask_worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1")
            for _ in range(2)
        ]
        yield address, workers
    finally:
        for process in (*workers, scheduler):
            process.kill()
            process.wait()


@pytest.mark.slow
def test_on_a_cluster_a_worker_that_is_killed_in_the_middle_changes_nothing(
    session: Session, cluster: tuple[str, list[subprocess.Popen[bytes]]]
) -> None:
    address, workers = cluster
    here = measure_sensitivity(session, values=VALUES).result()
    job = measure_sensitivity(session, values=VALUES, executor=address)
    while job.executor.workers < 2:
        time.sleep(0.1)
    killed = threading.Event()

    def kill_one(_: object) -> None:
        if not killed.is_set() and job.latest and job.latest.known and not job.latest.exact:
            os.kill(workers[0].pid, signal.SIGKILL)
            killed.set()

    job.subscribe(kill_one)
    found = job.result()
    assert killed.is_set()
    assert workers[0].wait(10) == -signal.SIGKILL
    assert found.exact
    assert_same(found, here)
