"""What is still at work when Python ends is asked to end first.

Threads in the background do not keep Python from ending; but one that is amid a runtime's own code just then, and comes
back to a Python that is gone, aborts the process: a script that has printed all its figures would fail.
"""

from __future__ import annotations

import atexit
import os
import time
import weakref
from typing import Protocol

#: Seconds that all of them together are waited for.
PATIENCE = 10.0


class AtWork(Protocol):
    """What works on threads of its own."""

    def cancel(self) -> object:
        """Ask it to end."""
        ...

    def join(self, seconds: float | None = None) -> None:
        """Wait until it has ended, or so many seconds."""
        ...


_at_work: weakref.WeakKeyDictionary[AtWork, int] = weakref.WeakKeyDictionary()


def end_at_exit(work: AtWork) -> None:
    """Have ``work`` end when Python does, in this process: one that is forked from it has none of its threads."""
    _at_work[work] = os.getpid()


@atexit.register
def _end_all() -> None:
    here = [work for work, process in list(_at_work.items()) if process == os.getpid()]
    for work in here:
        work.cancel()
    end = time.monotonic() + PATIENCE
    for work in here:
        work.join(max(0.0, end - time.monotonic()))
