"""A sweep on a Dask cluster of one and of two worker processes here, and what a task costs beside its work.

Both sweeps must give the figures of the one that runs in this process, to the digit. From the overhead of a
task and the time of one, the README tells how many workers a scheduler can keep busy.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from workbench.analyze.sensitivity import Sensitivity, measure_sensitivity
from workbench.run.cluster import Cluster
from workbench.session import Session

MODEL, TASKS, TOLERANCE = "resnet20", 300, 0.02
VALUES = (0.3, 0.5, 0.7, 0.9)
#: Two workers on two cores that nothing else uses; the scheduler and this process take their share.
LEAST_SPEEDUP = 1.5


class Nothing:
    """A kit whose tasks do nothing, so that only what a task costs is left."""

    def open(self) -> Callable[[int], int]:
        """Return what gives a task back."""
        return _same


def _same(task: int) -> int:
    return task


def main() -> int:
    """Print seconds for one and two workers and the overhead; return 1 where figures differ or it gains too little."""
    torch.set_num_threads(1)
    seconds: dict[int, float] = {}
    with Session(MODEL, "fashion_mnist", history=":memory:") as session:
        session.measure()
        session.give_way(lambda: False)
        here = _sweep(session, "inline")
        for workers in (1, 2):
            with cluster(workers) as address:
                overhead = _overhead(address)
                start = time.perf_counter()
                there = measure_sensitivity(
                    session, "prune", values=VALUES, tolerance=TOLERANCE, executor=address
                ).result()
                seconds[workers] = time.perf_counter() - start
            if not _equal(here, there):
                print(f"{workers} workers gave other figures than this process")
                return 1
            print(
                f"{workers} worker{'s' * (workers > 1)}: {seconds[workers]:.1f} s for {there.n.size} cells and "
                f"{there.n.sum():,} images, same figures to the digit; an empty task takes {overhead:.1f} ms",
                flush=True,
            )
    gained = seconds[1] / seconds[2]
    print(f"two workers are {gained:.2f}× as fast as one, must be ≥ {LEAST_SPEEDUP}")
    return 0 if gained >= LEAST_SPEEDUP else 1


def _sweep(session: Session, executor: str) -> Sensitivity:
    return measure_sensitivity(session, "prune", values=VALUES, tolerance=TOLERANCE, executor=executor).result()


@contextlib.contextmanager
def cluster(workers: int) -> Iterator[str]:
    """Start a scheduler and that many workers of one thread, each a process; gives the address."""
    path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scheduler.json"

        def start(module: str, *options: str) -> subprocess.Popen[bytes]:
            command = [sys.executable, "-m", f"distributed.cli.{module}", *options]
            quiet = subprocess.DEVNULL
            return subprocess.Popen(command, env=environment, cwd=folder, stdout=quiet, stderr=quiet)

        place = ["--scheduler-file", str(file)]
        running = [start("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", *place)]
        try:
            while not file.exists():
                time.sleep(0.05)
            options = ["--nthreads", "1", "--no-dashboard", "--no-nanny", "--memory-limit", "0", "--host", "127.0.0.1"]
            running += [start("dask_worker", *place, *options) for _ in range(workers)]
            address = json.loads(file.read_text())["address"]
            _wait_for(address, workers)
            yield address
        finally:
            for process in reversed(running):
                process.terminate()
                process.wait()


def _wait_for(address: str, workers: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = Cluster(address)
        try:
            if found.workers >= workers:
                return
        finally:
            found.close()
        time.sleep(0.2)
    raise SystemExit("the cluster's workers did not come")


def _overhead(address: str) -> float:
    """Return the milliseconds of a task that does nothing, from its submission to its result, over many."""
    from tests.bench.scaling import Nothing as Importable  # workers know this file by its name, not as __main__

    executor = Cluster(address)
    crew = executor.open(Importable())
    try:
        list(crew.run(range(20)))
        start = time.perf_counter()
        list(crew.run(range(TASKS)))
        return 1000 * (time.perf_counter() - start) / TASKS
    finally:
        crew.close()
        executor.close()


def _equal(ours: Sensitivity, theirs: Sensitivity) -> bool:
    return all(np.array_equal(getattr(ours, name), getattr(theirs, name)) for name in ("value", "low", "high", "n"))


if __name__ == "__main__":
    sys.exit(main())
