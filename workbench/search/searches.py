"""The allocation of one Session: what it has found, and the job that runs.

It hangs on the Session, so that every view of it shows the same search, and what was found is there when someone comes
back.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

from workbench.jobs import Progress

from .allocation import Allocation
from .budget import Budget
from .job import AllocationJob

if TYPE_CHECKING:
    from workbench.session import Session

Listener = Callable[["Searches"], None]

_searches: weakref.WeakKeyDictionary[Any, Searches] = weakref.WeakKeyDictionary()
_searches_lock = threading.Lock()


class Searches:
    """Allocations of one Session, one at a time; safe to use from several threads. It does not keep the Session alive.

    ``found`` is the last answer, None before the first; ``progress`` that of the search that runs or ran last, and
    ``doing`` the name of its stage.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._job: AllocationJob | None = None
        self._listeners: list[Listener] = []
        self.found: Allocation | None = None
        self.progress: Progress | None = None
        self.doing = ""

    @property
    def running(self) -> bool:
        """Whether a search is under way."""
        return self._job is not None

    def start(
        self, session: Session, budget: Budget, methods: Sequence[str] = (), locked: Collection[str] = ()
    ) -> AllocationJob:
        """Start a search; one that runs is cancelled. Raises ``WorkbenchError`` as ``AllocationJob`` does."""
        job = AllocationJob(session, budget, methods, locked=locked)
        with self._lock:
            before, self._job = self._job, job
            self.found, self.progress = None, job.progress
        if before is not None:
            before.cancel()
        job.subscribe(lambda progress: self._follow(job, progress))
        self._follow(job, job.progress)  # it may have ended before it was listened to
        return job

    def cancel(self) -> None:
        """Ask the search to end; what it found stays."""
        job = self._job
        if job is not None:
            job.cancel()

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` on the search's thread when anything changed; return what ends that."""
        with self._lock:
            self._listeners.append(listener)

        def leave() -> None:
            with self._lock:
                if listener in self._listeners:
                    self._listeners.remove(listener)

        return leave

    def _follow(self, job: AllocationJob, progress: Progress) -> None:
        with self._lock:
            if job is not self._job:
                return
            self.progress, self.doing, self.found = progress, job.doing, job.latest
            if progress.state != "running":
                self._job = None
        for listener in list(self._listeners):
            listener(self)


def searches_of(session: Session) -> Searches:
    """Return the searches of ``session``."""
    with _searches_lock:
        found = _searches.get(session)
        if found is None:
            found = _searches[session] = Searches()
        return found
