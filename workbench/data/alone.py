"""One process at a time, where several would do the same work or disturb each other's."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def alone(path: Path, stop: Callable[[], bool]) -> Iterator[None]:
    """Hold the lock file ``path``, waiting until no other process does, or until ``stop()``.

    The system lets go of it when a process ends, however it ends. Where it has no such locks, or the file
    cannot be made, nobody waits.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(path.open("w"))
            while not stop():
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(0.05)
        yield
