"""What hangs on a Session beside its recipe: marks, sweeps, searches, trainings.

There is one of each for a Session, made when it is first asked for, so that all views show the same. It does not
keep the Session alive, may be used from several threads, and tells its listeners when anything changed.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar

from workbench.jobs import Job, Progress
from workbench.listeners import Listeners

T = TypeVar("T")


class PerSession(Generic[T]):
    """Gives each Session its own ``make(session)``, always the same one.

    >>> class Session: ...
    >>> of = PerSession(lambda session: [])
    >>> one, other = Session(), Session()
    >>> of(one) is of(one), of(one) is of(other)
    (True, False)
    """

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self._made: weakref.WeakKeyDictionary[Any, T] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    def __call__(self, session: Any) -> T:
        """Return the one of ``session``."""
        with self._lock:
            found = self._made.get(session)
            if found is None:
                found = self._made[session] = self._make(session)
            return found


class Watched:
    """Tells listeners when it changed; ``_lock`` guards what it holds."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._listeners = Listeners[Any]()

    def subscribe(self, listener: Callable[[Self], None]) -> Callable[[], None]:
        """Call ``listener`` when anything changed, on the thread that changed it; return what ends that."""
        return self._listeners.add(listener)

    def _tell(self) -> None:
        for listener in self._listeners:
            listener(self)


class OneJob(Watched):
    """Work of one kind, one Job at a time; ``progress`` is that of the Job that runs or ran last."""

    def __init__(self) -> None:
        super().__init__()
        self._job: Job[Any] | None = None
        self.progress: Progress | None = None

    @property
    def running(self) -> bool:
        """Whether a Job is under way."""
        return self._job is not None

    def cancel(self) -> None:
        """Ask what runs to end; what it found stays."""
        job = self._job
        if job is not None:
            job.cancel()

    def _begin(
        self,
        job: Job[Any],
        note: Callable[[Progress], None],
        *,
        reset: Callable[[], None] = lambda: None,
        settle: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        """Follow ``job`` in the place of one that runs, which is cancelled.

        ``reset`` and ``note``, at each progress, are called under the lock; ``settle`` after it, before the
        listeners, who hear of a Job's end whatever it raises.
        """
        with self._lock:
            before, self._job, self.progress = self._job, job, job.progress
            reset()
        if before is not None:
            before.cancel()

        def follow(progress: Progress) -> None:
            with self._lock:
                if job is not self._job:
                    return
                self.progress = progress
                note(progress)
                if progress.state != "running":
                    self._job = None
            try:
                settle(progress)
            finally:
                self._tell()

        job.subscribe(follow)
        follow(job.progress)  # it may have ended before it was listened to
