"""Long work beside the sliders: progress with an estimate of what is left, cancel, and the result.

A Job runs a function on a thread of its own. The function is handed the Job, tells it how far it has
come (``advance``), and asks often whether it may go on (``check``), which raises ``Cancelled``. Whoever
shows the Job subscribes; listeners are called on the Job's thread. Work that needs a process of its own
keeps this face and moves only what is behind it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from workbench.errors import WorkbenchError
from workbench.leaving import end_at_exit
from workbench.listeners import Listeners

T = TypeVar("T")
State = Literal["running", "done", "cancelled", "failed"]
_log = logging.getLogger(__name__)


#: Share of the work that is done before what is left is told: the first pieces carry the cost of starting.
_TOLD_FROM = 0.02


class Cancelled(Exception):
    """The job was asked to end."""


@dataclass(frozen=True)
class Progress:
    """How far a job has come: ``done`` of ``total`` units of work, and seconds past and left."""

    state: State
    done: float
    total: float
    seconds: float
    left: float | None
    error: str = ""

    @property
    def share(self) -> float:
        """The share done, 0 to 1."""
        return min(1.0, self.done / self.total) if self.total else 0.0


class Job(Generic[T]):
    """``work(job)`` on a thread of its own; it starts at once.

    >>> Job("sum", lambda job: sum(range(4))).result()
    6
    """

    def __init__(self, name: str, work: Callable[[Job[T]], T], total: float = 1.0) -> None:
        self.name = name
        self._work = work
        self._state: State = "running"
        self._done, self._total = 0.0, total
        self._waited = 0.0
        self._begin = time.monotonic()
        self._end: float | None = None
        self._error = ""
        self._cause: Exception | None = None
        self._result: T | None = None
        self._cancel = threading.Event()
        self._finished = threading.Event()
        self._listeners = Listeners[Progress]()
        self._thread = threading.Thread(target=self._run, name=f"workbench-{name}", daemon=True)
        end_at_exit(self)
        self._thread.start()

    @property
    def progress(self) -> Progress:
        """How far it has come; seconds spent waiting for others do not count towards what is left."""
        seconds = (self._end or time.monotonic()) - self._begin
        working = seconds - self._waited
        left = None
        if self._state == "running" and self._done >= _TOLD_FROM * self._total and self._done > 0 and working > 0:
            left = max(0.0, working * (self._total - self._done) / self._done)
        return Progress(self._state, self._done, self._total, seconds, left, self._error)

    @property
    def still(self) -> float:
        """Seconds in which the work stood still."""
        return self._waited

    @property
    def running(self) -> bool:
        """Whether it is still at work."""
        return self._state == "running"

    def advance(self, done: float, total: float | None = None) -> None:
        """Note that ``done`` units are finished, and tell the listeners."""
        self._done = done
        self._total = self._total if total is None else total
        self._tell()

    def waited(self, seconds: float) -> None:
        """Note time in which the work stood still, so that the estimate of what is left stays true."""
        self._waited += seconds

    @property
    def cancelled(self) -> bool:
        """Whether it was asked to end."""
        return self._cancel.is_set()

    def check(self) -> None:
        """Raise ``Cancelled`` where the job was asked to end."""
        if self._cancel.is_set():
            raise Cancelled

    def cancel(self) -> None:
        """Ask the work to end; ``wait`` tells when it has."""
        self._cancel.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end; return whether it has come."""
        return self._finished.wait(timeout)

    def join(self, seconds: float | None = None) -> None:
        """Wait until its thread has ended too, or so many seconds."""
        self._thread.join(seconds)

    def result(self) -> T:
        """Wait for the end and return the result; raises ``WorkbenchError``, from its cause, where there is none."""
        self.wait()
        if self._state == "done":
            return self._result  # type: ignore[return-value]
        raise WorkbenchError(self._error or f"The {self.name} was cancelled.") from self._cause

    def subscribe(self, listener: Callable[[Progress], None]) -> None:
        """Call ``listener`` with every progress, the last one included."""
        self._listeners.add(listener)

    def _run(self) -> None:
        state: State = "done"
        try:
            self._result = self._work(self)
        except Cancelled:
            state = "cancelled"
        except Exception as error:  # whatever goes wrong must reach the person as a sentence
            state, self._cause = "failed", error
            known = isinstance(error, WorkbenchError)
            self._error = str(error) if known else f"The {self.name} failed ({type(error).__name__}: {error})."
            if not known:
                _log.exception("The job '%s' failed.", self.name)
        self._end = time.monotonic()
        self._state = state
        self._finished.set()
        self._tell()

    def _tell(self) -> None:
        progress = self.progress
        for listener in self._listeners:
            try:
                listener(progress)
            except Exception:  # one broken view must not end the work
                _log.exception("A listener of the job '%s' failed.", self.name)
