"""A sweep on one and on two workers of a Dask cluster and of a process pool, and what a task costs beside its work.

A worker is a process that keeps one core busy: one thread of Dask, one of PyTorch and one of ONNX Runtime, which is
checked by the processor time it used. What the machine itself gives is told first: pieces of the same work, without
looks and without a scheduler, in one process and in two; cores that share caches, or are two threads of one, give less
than twice. All sweeps must give the figures of the one that runs in this process, to the
digit. The workers of a cluster live on from one sweep to the next, so they have imported what they need before the
time counts; a pool starts with each sweep, so its time is told from the first answer on, and as a whole. From the
overhead of a task and the time of one, the README tells how many workers a scheduler can keep busy.

Times are the best of some rounds, in which one and two workers take turns.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import torch

from tests.bench.record import Figure, keep
from workbench.analyze.cells import Piece, RemoteKit
from workbench.analyze.finding import Question
from workbench.analyze.sensitivity import Sensitivity, measure_sensitivity
from workbench.analyze.variants import VariantSource
from workbench.errors import WorkbenchError
from workbench.run.cluster import Cluster
from workbench.run.executor import Executor, Processes
from workbench.session import Session

MODEL, TASKS, TOLERANCE, ROUNDS = "resnet20", 300, 0.02, 2
VALUES = (0.3, 0.5, 0.7, 0.9)
#: Images and pieces of what the machine itself gives.
CEILING_IMAGES, CEILING_PIECES = 4096, 16
#: Two workers on two cores that nothing else uses; the scheduler and this process take their share.
LEAST_SPEEDUP = 1.5


class Nothing:
    """A kit whose tasks do nothing, so that only what a task costs is left."""

    def open(self) -> Callable[[int], int]:
        """Return what gives a task back."""
        return _same


def _same(task: int) -> int:
    return task


@dataclass(frozen=True)
class Run:
    """One sweep: ``seconds`` in all, ``after`` the first answers came, and how many cores the workers kept busy.

    ``overhead``: milliseconds that an empty task takes, 0 where that was not measured.
    """

    found: Sensitivity
    seconds: float
    after: float
    busy: float = float("nan")
    overhead: float = 0.0


def main() -> int:
    """Measure one and two workers and the overhead; return 1 where figures differ or it gains too little."""
    torch.set_num_threads(1)
    began = time.perf_counter()
    with Session(MODEL, "fashion_mnist", history=":memory:") as session:
        session.measure()
        session.give_way(lambda: False)
        ceiling = _ceiling(session)
        print(f"two processes that wait for nothing are {ceiling:.2f}× as fast as one on this machine", flush=True)
        here = _sweep(session, "inline").found
        figures, runs = [], []
        for name, run in (("Dask", _on_cluster), ("pool", _in_pool)):
            rounds = [{workers: run(session, workers) for workers in (1, 2)} for _ in range(ROUNDS)]
            figures += _judged(name, here, rounds, ceiling)
            runs += [
                {
                    "workers": f"{workers} of {name}",
                    "seconds": run.seconds,
                    "after": run.after,
                    "busy": run.busy if run.busy == run.busy else None,
                }
                for each in rounds
                for workers, run in each.items()
            ]
    keep("scaling", figures, data="fashion_mnist", seeds=[0], seconds=time.perf_counter() - began, runs=runs)
    return int(not all(figure.reached for figure in figures))


def _judged(name: str, here: Sensitivity, rounds: list[dict[int, Run]], ceiling: float) -> list[Figure]:
    """Return what one kind of workers took, and whether their figures are those of this process."""
    best = {workers: min(each[workers].after for each in rounds) for workers in (1, 2)}
    runs = [(workers, run) for each in rounds for workers, run in each.items()]
    same = all(_equal(here, run.found) for _, run in runs)
    alone = not any(run.busy > workers * 1.1 for workers, run in runs)  # else a worker kept more than its core busy
    gained = best[1] / best[2]
    overhead = [run.overhead for _, run in runs if run.overhead]
    told = f", an empty task takes {min(overhead):.1f} to {max(overhead):.1f} ms" if overhead else ""
    what = f"Sweep of {MODEL}, {here.n.size} cells: two workers against one, {name}"
    return [
        Figure(
            what, f"≥ {LEAST_SPEEDUP}×",
            f"{gained:.2f}× ({best[1]:.1f} → {best[2]:.1f} s; the machine itself gives {ceiling:.2f}×){told}",
            gained >= LEAST_SPEEDUP and alone,
        ),
        Figure(f"{what}: figures", "equal to the digit", "equal" if same else "not equal", same),
    ]  # fmt: skip


def _ceiling(session: Session) -> float:
    """Return how many times as fast two processes do the pieces of a sweep as one, where none waits for another."""
    footing = session.footing()
    question = Question("prune", "ratio", VALUES, (session.layers[0].name,))
    layout = VariantSource(footing).lay_out([question.recipe(question.layers[0], level) for level in VALUES])
    kit = RemoteKit.of(footing, question, (layout,), session.split.images, session.normalization, session.data)
    columns, size = ((0, tuple(range(len(VALUES)))),), CEILING_IMAGES // CEILING_PIECES
    pieces = [Piece(columns, size * number, size * (number + 1)) for number in range(CEILING_PIECES)]
    seconds = []
    for workers in (1, 2):
        crew = Processes(workers).open(kit)
        list(crew.run(pieces[: 2 * workers]))  # each has started, and opened the kit
        start = time.perf_counter()
        list(crew.run(pieces))
        seconds.append(time.perf_counter() - start)
        crew.close()
    return seconds[0] / seconds[1]


def _sweep(session: Session, executor: str | Executor, processes: Sequence[psutil.Process] = ()) -> Run:
    used, start = _used(processes), time.perf_counter()
    job = measure_sensitivity(session, "prune", values=VALUES, tolerance=TOLERANCE, executor=executor)
    came: list[float] = []
    job.subscribe(lambda progress: came.append(time.perf_counter()) if progress.done else None)
    found = job.result()
    end = time.perf_counter()
    busy = (_used(processes) - used) / (end - start) if processes else float("nan")
    return Run(found, end - start, end - came[0], busy)


def _used(processes: Sequence[psutil.Process]) -> float:
    """Return the seconds of processor time that ``processes`` took so far."""
    times = [process.cpu_times() for process in processes]
    return sum(each.user + each.system for each in times)


def _on_cluster(session: Session, workers: int) -> Run:
    with cluster(workers) as (address, running):
        overhead = _overhead(address)
        measure_sensitivity(session, "prune", values=[0.5], tolerance=0.2, executor=address).result()  # imports
        return replace(_sweep(session, address, running), overhead=overhead)


def _in_pool(session: Session, workers: int) -> Run:
    return _sweep(session, Processes(workers))


@contextlib.contextmanager
def cluster(workers: int) -> Iterator[tuple[str, list[psutil.Process]]]:
    """Start a scheduler and that many workers of one thread, each a process; gives the address and the workers."""
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
            yield address, [psutil.Process(process.pid) for process in running[1:]]
        finally:
            for process in reversed(running):
                process.terminate()
                process.wait()


def _wait_for(address: str, workers: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(WorkbenchError):  # none of them is there yet
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
