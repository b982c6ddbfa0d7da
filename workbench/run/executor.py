"""Where long work is carried out: here, on threads, in processes, or on the machines of a Dask cluster.

Whoever has work cuts it into *tasks* that can be done in any order, and gives a ``Kit``: what a worker needs to do
them. A worker opens the kit once and keeps it. Results come as they are ready, each with its task's number, and
each exactly once: where a worker dies, what it had not delivered is done again by another. What a task's result is
depends on the task and the kit alone, so that every executor gives the same figures to the digit.

Threads share everything with the session and can be stopped between two batches. Processes start from nothing: the
kit is copied to them. A cluster's workers get it as a plugin, so that one that joins later has it too.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, closing, nullcontext
from typing import Any, Protocol, TypeVar

from workbench.errors import WorkbenchError

A = TypeVar("A", contravariant=True)
R = TypeVar("R", covariant=True)

#: Tasks handed out beyond those that are being done, for each worker.
AHEAD = 1
#: How often workers may die, one after the other without a result between, before it is given up.
DEATHS = 3


class Kit(Protocol[A, R]):
    """What a worker needs; ``remote`` ones must survive being pickled."""

    def open(self) -> Callable[[A], R]:
        """Return what does a task; several threads may call it."""


class Crew(Protocol[A, R]):
    """Workers that hold one kit."""

    def run(self, tasks: Sequence[A]) -> Iterator[tuple[int, R]]:
        """Do ``tasks`` and yield each one's number and result, as they come."""

    def close(self) -> None:
        """Let the workers go; what they are doing is not waited for."""


class Executor(Protocol):
    """Where tasks are done. ``workers`` at a time; ``remote`` where they share no memory with this process."""

    @property
    def workers(self) -> int:
        """Tasks done at a time."""

    @property
    def remote(self) -> bool:
        """Whether the kit is copied to other processes."""

    def open(self, kit: Kit[A, R]) -> Crew[A, R]:
        """Give the workers a kit."""

    def close(self) -> None:
        """Give back what the executor itself holds."""


class Inline:
    """One task after the other on the caller's thread: for tests, and where threads are unwanted."""

    workers, remote = 1, False

    def open(self, kit: Kit[A, R]) -> Crew[A, R]:
        """Open the kit here."""
        return _Inline(kit)

    def close(self) -> None:
        """There is nothing to give back."""


class _Inline(Crew[A, R]):
    def __init__(self, kit: Kit[A, R]) -> None:
        self._do = kit.open()

    def run(self, tasks: Sequence[A]) -> Iterator[tuple[int, R]]:
        for number, task in enumerate(tasks):
            yield number, self._do(task)

    def close(self) -> None:
        pass


class Threads:
    """Threads of this process, as many as PyTorch uses unless said."""

    remote = False

    def __init__(self, workers: int | None = None) -> None:
        import torch

        self.workers = workers or torch.get_num_threads()

    def open(self, kit: Kit[A, R]) -> Crew[A, R]:
        """Open the kit here; the threads share it."""
        return _Threads(kit, self.workers)

    def close(self) -> None:
        """There is nothing to give back."""


class _Threads(Crew[A, R]):
    def __init__(self, kit: Kit[A, R], workers: int) -> None:
        self._do = kit.open()
        self._pool = ThreadPoolExecutor(workers, "workbench-task")
        self._ahead = workers * (1 + AHEAD)

    def run(self, tasks: Sequence[A]) -> Iterator[tuple[int, R]]:
        return _keep_busy(self._submit, tasks, self._ahead)

    def _submit(self, task: A) -> Future[R]:
        try:
            return self._pool.submit(self._do, task)
        except RuntimeError as error:  # the pools of threads are shut down first of all
            raise WorkbenchError("Python is ending, and begins no more tasks.") from error

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


class Processes:
    """Processes of this machine, each keeping one core busy; as many as there are cores unless said."""

    remote = True

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or os.cpu_count() or 1

    def open(self, kit: Kit[A, R]) -> Crew[A, R]:
        """Start the processes and give each a copy of the kit."""
        return _Processes(packed(kit), self.workers)

    def close(self) -> None:
        """There is nothing to give back: a crew's processes end with it."""


class _Processes(Crew[A, R]):
    def __init__(self, content: bytes, workers: int) -> None:
        self._content, self._workers = content, workers
        self._pool = self._start()

    def run(self, tasks: Sequence[A]) -> Iterator[tuple[int, R]]:
        left, deaths = dict(enumerate(tasks)), 0
        while left:
            numbers = list(left)
            try:
                for place, result in _keep_busy(self._submit, [left[number] for number in numbers], self._ahead):
                    left.pop(numbers[place])
                    deaths = 0
                    yield numbers[place], result
            except BrokenProcessPool as error:
                deaths += 1
                if deaths >= DEATHS:
                    raise WorkbenchError(
                        f"The worker processes ended {deaths} times before they had done anything: they may have run "
                        "out of memory, or this script lacks `if __name__ == '__main__':`. Use threads instead."
                    ) from error
                self.close()
                self._pool = self._start()

    def close(self) -> None:
        processes = list((self._pool._processes or {}).values())
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()

    @property
    def _ahead(self) -> int:
        return self._workers * (1 + AHEAD)

    def _submit(self, task: Any) -> Future[Any]:
        return self._pool.submit(_do_held, task)

    def _start(self) -> ProcessPoolExecutor:
        import multiprocessing

        context = multiprocessing.get_context("spawn")  # forked while threads hold locks, a process may hang
        return ProcessPoolExecutor(self._workers, context, _hold, (self._content,))


class Held:
    """A kit in a worker's memory: unpickled and opened when the first task asks for it."""

    def __init__(self, content: bytes) -> None:
        self._content, self._lock = content, threading.Lock()
        self._do: Callable[[Any], Any] | None = None

    def __call__(self, task: Any) -> Any:
        """Do one task."""
        with self._lock:
            if self._do is None:
                import torch

                torch.set_num_threads(1)  # each worker keeps one core busy
                self._do = pickle.loads(self._content).open()  # made by this program's own `packed`
        return self._do(task)


_held: Held | None = None


def _hold(content: bytes) -> None:
    global _held
    _held = Held(content)


def _do_held(task: Any) -> Any:
    assert _held is not None
    return _held(task)


def packed(kit: Kit[Any, Any]) -> bytes:
    """Return the kit pickled, classes of a notebook included; raises ``WorkbenchError`` where it can't be."""
    try:
        try:
            import cloudpickle

            return bytes(cloudpickle.dumps(kit))
        except ImportError:  # comes with the extra [cluster]
            return pickle.dumps(kit)
    except Exception as error:
        raise WorkbenchError(
            f"This model cannot be sent to other processes ({str(error).splitlines()[0][:120]}): use threads."
        ) from error


def executor_for(where: str | Executor | None) -> Executor:
    """Return the executor meant by ``inline``, ``threads`` (also None), ``processes`` or a scheduler's address.

    Raises ``WorkbenchError`` where nothing answers at the address.
    """
    if where is None or where == "threads":
        return Threads()
    if not isinstance(where, str):
        return where
    if where in ("inline", "processes"):
        return Inline() if where == "inline" else Processes()
    from .cluster import Cluster

    return Cluster(where)


def hire(where: str | Executor | None) -> tuple[Executor, AbstractContextManager[object]]:
    """Return the executor that :func:`executor_for` finds, and what ends it where it was made here."""
    executor = executor_for(where)
    return executor, nullcontext() if executor is where else closing(executor)


def _keep_busy(submit: Callable[[Any], Future[Any]], tasks: Sequence[Any], ahead: int) -> Iterator[tuple[int, Any]]:
    """Yield numbers and results as they come, with at most ``ahead`` tasks handed out."""
    waiting: dict[Future[Any], int] = {}
    rest = iter(enumerate(tasks))
    try:
        while True:
            for number, task in rest:
                waiting[submit(task)] = number
                if len(waiting) >= ahead:
                    break
            if not waiting:
                return
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in sorted(done, key=lambda each: waiting[each]):
                yield waiting.pop(future), future.result()
    finally:
        with contextlib.suppress(Exception):
            for future in waiting:
                future.cancel()
