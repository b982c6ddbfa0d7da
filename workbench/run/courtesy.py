"""Processes of one machine that let each other's first figures go first.

Each page has a process of its own, and while one person drags a slider, another's page may be running the
last thousands of images for a figure that hardly changes any more. So a process tells when someone waits
in it for a first figure (``hurry``, until ``rest``), and work that nobody waits for asks before each batch
whether it should hold back a moment (``give_way``). First figures themselves take turns (``is_turn``), the
longest wait first: two at a time are done sooner than eight at once, and whoever still drags, whose next
move makes this one's figure useless, comes after those who have let go.

They tell through a file mapped into memory: a place for each process, holding the time since when someone
waits, on the clock that the machine's processes share. Nothing is locked: a torn or a lost value costs a
moment at most, and what a process that died has left there counts for seconds only.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

#: Places in the file; processes that happen to share one overwrite each other, which is no harm.
PLACES = 256
#: Seconds that a person's wait counts: a first figure that takes longer is not helped by others' waiting.
PATIENCE = 2.0
#: Seconds that a batch holds back at most, so that everything gets done in the end.
MOST = 0.6
#: First figures computed at once: one that computes on all cores, one that prepares.
TURNS = 2


def stand_back(by: int) -> None:
    """Let this thread, and those it starts, run after others that want the processor; on Linux only."""
    if sys.platform == "linux":  # elsewhere priorities belong to processes
        thread = threading.get_native_id()
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + by)


class Courtesy:
    """This process among those that share the file ``path``; without a file, alone."""

    def __init__(self, path: Path | None) -> None:
        self._place = os.getpid() % PLACES
        self._times = np.zeros(PLACES)
        if path is not None:
            with contextlib.suppress(OSError, ValueError):  # a full disk, or no right to write there
                self._times = _mapped(path)

    def hurry(self) -> None:
        """Someone waits for a first figure in this process."""
        self._times[self._place] = time.monotonic()

    def rest(self) -> None:
        """Nobody waits in this process any more."""
        self._times[self._place] = 0.0

    @property
    def wanted(self) -> bool:
        """Whether someone waits in another process."""
        return bool(self._others().size)

    @property
    def is_turn(self) -> bool:
        """Whether this process may compute its first figure: few others wait for longer."""
        return int((self._others() < self._times[self._place]).sum()) < TURNS

    def give_way(self, check: Callable[[], object] = lambda: None, most: float = MOST) -> None:
        """Hold back while someone waits in another process, ``most`` seconds at most; ``check`` may raise."""
        deadline = time.monotonic() + most
        while self.wanted and time.monotonic() < deadline:
            check()
            time.sleep(0.01)

    def _others(self) -> NDArray[np.float64]:
        """Return since when someone waits, for each other process in which someone does."""
        now, times = time.monotonic(), np.delete(self._times, self._place)
        return times[(times <= now) & (times > now - PATIENCE)]


def _mapped(path: Path) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        if file.seek(0, os.SEEK_END) < 8 * PLACES:
            file.truncate(8 * PLACES)
        return np.frombuffer(mmap.mmap(file.fileno(), 8 * PLACES), np.float64)
