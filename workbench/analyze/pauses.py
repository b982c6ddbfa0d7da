"""What a sweep is run for, and where it lets the person go first."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from workbench.data.dataset import Dataset, Normalization, Split
from workbench.footing import Footing
from workbench.jobs import Cancelled

if TYPE_CHECKING:
    from .sweep import SensitivityJob


class Host(Protocol):
    """What a sweep is run for: a Session, or other work that measures a model on a split."""

    data: Dataset
    split: Split
    normalization: Normalization

    @property
    def closed(self) -> bool:
        """Whether it has ended."""

    def footing(self, check: Callable[[], None] = ...) -> Footing:
        """Return what is needed to run images."""

    def give_way(self, cancelled: Callable[[], bool]) -> None:
        """Wait while a person's own recipe is measured."""


class Pauses:
    """Where a sweep's threads ask whether they may go on."""

    def __init__(self, job: SensitivityJob) -> None:
        self._job = job
        self._gate = threading.Lock()  # of two threads that wait, only one counts the time
        self.stopped = False

    def take(self) -> None:
        """Wait while the person's recipe is measured. Raises ``Cancelled`` where the job is over."""
        job = self._job
        with self._gate:
            start = time.monotonic()
            job.session.give_way(lambda: job.cancelled or self.stopped)
            waited = time.monotonic() - start
            if waited > 0.005:
                job.waited(waited)
        job.check()
        if job.session.closed or self.stopped:
            raise Cancelled
