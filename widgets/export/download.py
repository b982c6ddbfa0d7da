"""Bytes on their way to a page: made on a thread, sent in pieces, each answered.

The page answers every piece, and only a few are under way at a time, so that a file of any size neither
fills the socket nor outlives its page: where answers stop coming, the thread ends.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable
from typing import Any

from workbench.errors import WorkbenchError
from workbench.jobs import Cancelled, Job

PIECE = 512 * 1024
#: Pieces sent ahead of the page's answers.
AHEAD = 4
#: Seconds without an answer after which the page is taken to be gone.
PATIENCE = 30.0
#: Bytes without which a disk is taken to be full.
ROOM = 100_000

Send = Callable[[dict[str, Any], list[bytes]], None]


class Downloads:
    """What one view sends to its page; each download has a ticket that the page gave it."""

    def __init__(self, send: Send, patience: float = PATIENCE) -> None:
        self._send, self._patience = send, patience
        self._answers = threading.Condition()
        self._answered: dict[int, int] = {}
        self._jobs: dict[int, Job[None]] = {}

    def start(self, ticket: int, make: Callable[[], tuple[str, bytes]]) -> Job[None]:
        """Make a file's name and bytes and send them; return the job that does it."""

        def work(job: Job[None]) -> None:
            try:
                self._deliver(job, ticket, *make())
            except Cancelled:
                raise
            except Exception as error:  # an exporter that gives up, a full disk: the page must not wait for ever
                told = (
                    str(error) if isinstance(error, WorkbenchError) else f"The file could not be made: {_plain(error)}."
                )
                self._send({"download": ticket, "problem": told}, [])
                raise
            finally:
                with self._answers:
                    self._answered.pop(ticket, None)
                    self._jobs.pop(ticket, None)

        with self._answers:
            self._answered[ticket] = 0
            job = self._jobs[ticket] = Job("download", work)
        return job

    def answer(self, ticket: int, pieces: int) -> None:
        """Note that the page has ``pieces`` pieces."""
        with self._answers:
            if ticket in self._answered:
                self._answered[ticket] = max(self._answered[ticket], pieces)
                self._answers.notify_all()

    def cancel(self, ticket: int) -> None:
        """Send no more of this download."""
        with self._answers:
            job = self._jobs.get(ticket)
            if job is not None:
                job.cancel()
                self._answers.notify_all()

    def check(self, ticket: int) -> None:
        """Raise ``Cancelled`` where this download is not wanted any more: for the work before its first piece."""
        with self._answers:
            job = self._jobs.get(ticket)
        if job is not None:
            job.check()

    def close(self) -> None:
        """End all downloads."""
        for ticket in list(self._jobs):
            self.cancel(ticket)

    def _deliver(self, job: Job[None], ticket: int, name: str, data: bytes) -> None:
        job.check()
        self._send({"download": ticket, "name": name, "bytes": len(data)}, [])
        view = memoryview(data)
        pieces = -(-len(data) // PIECE)
        for number in range(pieces):
            self._await(job, ticket, number - AHEAD + 1)
            self._send({"download": ticket, "piece": number}, [bytes(view[number * PIECE : (number + 1) * PIECE])])
            job.advance(number + 1, pieces)
        self._await(job, ticket, pieces)

    def _await(self, job: Job[None], ticket: int, pieces: int) -> None:
        """Wait until the page has so many pieces. Raises ``WorkbenchError`` where it stays silent."""
        with self._answers:
            while self._answered[ticket] < pieces:
                before = self._answered[ticket]
                came = self._answers.wait_for(
                    lambda: job.cancelled or self._answered[ticket] > before,  # noqa: B023
                    self._patience,
                )
                job.check()
                if not came:
                    raise WorkbenchError("The download stopped: the page did not answer. Start it again.")
        job.check()


def _plain(error: Exception) -> str:
    """Return what went wrong as the end of a sentence."""
    place = tempfile.gettempdir()
    if not isinstance(error, OSError) and shutil.disk_usage(place).free < ROOM:  # runtimes say it each in its own way
        return f"there is no space left in {place}, where it is put together"
    said = (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0].rstrip(". ")
    return f"{said[:1].lower()}{said[1:]}" if isinstance(error, OSError) else said
