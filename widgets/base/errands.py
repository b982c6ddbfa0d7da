"""Small pieces of work away from the comm's thread, where only the newest wish for each thing counts."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from workbench.leaving import end_at_exit

_log = logging.getLogger(__name__)


class Errands:
    """Runs one piece of work at a time; a newer wish for the same ``what`` takes the waiting one's place."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._waiting: dict[str, Callable[[], None]] = {}
        self._thread: threading.Thread | None = None
        end_at_exit(self)

    def run(self, what: str, work: Callable[[], None]) -> threading.Thread:
        """Do ``work`` soon; return the thread that will have done it when it ends."""
        with self._lock:
            self._waiting[what] = work
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()
            return self._thread

    def cancel(self) -> None:
        """Leave out what is not begun: Python ends."""
        with self._lock:
            self._waiting.clear()

    def join(self, seconds: float | None = None) -> None:
        """Wait until what was begun is done, or so many seconds."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(seconds)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
                work = self._waiting.pop(next(iter(self._waiting)))
            try:
                work()
            except Exception:  # the next errand must still be run
                _log.exception("An errand of a view failed.")
