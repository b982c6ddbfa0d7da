"""Files timed side by side, each in a process of its own, in turns.

In a round every file is visited once, in a new order: three runs warm the caches, the following ones count.
A round's figure is the median of its visit, a file's figure the median of its rounds. Runs of one visit
resemble each other more than those of another, as everything that disturbs lasts longer than a run; so the
interval is that of the rounds, which are independent, and not that of the runs, which would promise too
much. A ratio is formed within each round, so that drift of the machine cancels.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from workbench.errors import WorkbenchError
from workbench.measure.latency.device import device_name

from .cores import busy_ticks, choose_cores
from .engines import EngineError, KernelRow, find_runtime
from .noise import Noise, judge
from .process import Request, Worker
from .values import Benchmark, Interval, Memory

#: Nanoseconds that a visit lasts, rounds at least and at most, and the half-width that is enough.
VISIT, LEAST, MOST, ENOUGH = 40_000_000, 12, 60, 0.01


def benchmark(
    files: Sequence[str | Path],
    *,
    runtimes: Sequence[str] = (),
    threads: int = 1,
    batch: int = 1,
    shape: tuple[int, ...] | None = None,
    seconds: float = 5.0,
    kernels: bool = True,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[Benchmark, ...]:
    """Measure ``files`` on this machine, each in every one of ``runtimes`` that reads it.

    ``threads`` are pinned to as many cores, the idlest. ``shape``: of an input, without the batch, where
    the file leaves it open. ``seconds``: for each file, at most, beside loading. ``kernels``: also ask the
    runtime for its operators. ``progress`` is told the share that is done.

    Raises:
        WorkbenchError: a file that is absent or no model, a runtime that is unknown, not installed or
            doesn't read it, more threads than cores, a batch that the file doesn't take.
    """
    if batch < 1:
        raise WorkbenchError(f"A batch of {batch} was asked for: give 1 or more.")
    if seconds <= 0:
        raise WorkbenchError("The time to measure must be more than 0 seconds.")
    found = [(path, runtime) for path in map(Path, files) for runtime in _runtimes(path, runtimes)]
    cores = choose_cores(threads)
    requests = [Request(path, runtime, cores, batch, shape) for path, runtime in found]
    with contextlib.ExitStack() as stack:
        workers = []
        for place, request in enumerate(requests):
            workers.append(stack.enter_context(contextlib.closing(Worker(request))))
            progress(0.2 * (place + 1) / len(requests))
        rounds = _Rounds(workers, cores)
        rounds.run(seconds * len(workers), lambda share: progress(0.2 + 0.7 * share))
        rows = [_kernels(worker) if kernels else () for worker in workers]
        progress(1.0)
        return tuple(rounds.figures(place, request, rows[place]) for place, request in enumerate(requests))


class _Rounds:
    """The visits of all rounds, and what the machine did meanwhile."""

    def __init__(self, workers: Sequence[Worker], cores: tuple[int, ...]) -> None:
        self._workers, self._cores = workers, cores
        self._visits: list[list[list[int]]] = [[] for _ in workers]
        self._last: list[dict[str, Any]] = [{} for _ in workers]
        self._switches = [0] * len(workers)
        self._load: float | None = None

    def run(self, seconds: float, progress: Callable[[float], None]) -> None:
        """Visit round after round, until all intervals are narrow or the time is up."""
        generator = np.random.default_rng(0)
        start, ticks, cpu = time.perf_counter(), busy_ticks(), 0.0
        for count in range(1, MOST + 1):
            for place in generator.permutation(len(self._workers)):
                cpu += self._visit(int(place))
            spent = time.perf_counter() - start
            progress(min(1.0, max(spent / seconds, count / MOST)))
            narrow = all(Interval.of(_medians(visits)).half_width <= ENOUGH for visits in self._visits)
            if count >= LEAST and (narrow or spent > seconds):
                break
        self._load = _other_load(ticks, cpu, time.perf_counter() - start, self._cores)

    def _visit(self, place: int) -> float:
        answer = self._last[place] = self._workers[place].ask(f"visit {VISIT}")
        self._visits[place].append(answer["ns"])
        self._switches[place] += answer["switches"]
        return float(answer["cpu"])

    def figures(self, place: int, request: Request, kernels: Sequence[KernelRow]) -> Benchmark:
        """Return what was measured of one file."""
        about, last, visits = self._workers[place].about, self._last[place], self._visits[place]
        ms = Interval.of(_medians(visits)).scaled(1e-6)
        ratio = Interval.of(_medians(visits) / _medians(self._visits[0])) if place else None
        known = last["empty_bytes"] is not None and last["peak_bytes"] is not None
        return Benchmark(
            file=str(request.path), bytes=size_on_disk(request.path), runtime=about["version"], device=device_name(),
            threads=len(self._cores), cores=self._cores, batch=request.batch, inputs=about["inputs"],
            runs=sum(map(len, visits)), rounds=len(visits), ms=ms, throughput=ms.rate(1e3 * request.batch),
            ratio=ratio, load_ms=about["load_ms"], first_ms=about["first_ms"],
            memory=Memory(last["empty_bytes"], last["peak_bytes"]) if known else None,
            noise=self._noise(place), kernels=tuple(sorted(kernels, key=lambda row: -row.ms)),
        )  # fmt: skip

    def _noise(self, place: int) -> Noise:
        visits = self._visits[place]
        seconds = sum(sum(times) for times in visits) / 1e9
        return judge(visits, self._load, self._switches[place] / seconds)


def size_on_disk(path: Path) -> int:
    """Return the bytes of a model: of the file, and of the ``.bin`` beside an ``.xml``."""
    beside = [path.with_suffix(".bin")] if path.suffix == ".xml" else []
    return sum(file.stat().st_size for file in (path, *beside) if file.is_file())


def _runtimes(path: Path, names: Sequence[str]) -> list[Any]:
    """Return the runtimes of ``names`` that read the file; the one meant where none is named."""
    if not names:
        return [find_runtime(path)]
    found, refused = [], []
    for name in dict.fromkeys(names):
        try:
            found.append(find_runtime(path, name))
        except EngineError as error:
            if "not installed" in str(error) or "There is no" in str(error):
                raise
            refused.append(error)
    if not found:
        raise refused[0]
    return found


def _kernels(worker: Worker) -> tuple[KernelRow, ...]:
    return tuple(KernelRow(**row) for row in worker.ask("kernels")["rows"])


def _medians(visits: Sequence[Sequence[int]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([np.median(times) for times in visits])


def _other_load(before: dict[int, int], own: float, seconds: float, cores: Sequence[int]) -> float | None:
    """Return the share of the cores' time that was neither idle nor ours, ``own`` seconds of processor time."""
    after = busy_ticks()
    if not all(core in before and core in after for core in cores):
        return None
    busy = sum(after[core] - before[core] for core in cores) / os.sysconf("SC_CLK_TCK")
    return max(0.0, busy - own) / (seconds * len(cores))
