"""The dense model beside the deployed one, on a sample: how often they agree."""

from __future__ import annotations

import queue
import threading

import numpy as np
from numpy.typing import NDArray
from torch import from_numpy

from workbench.run.runner import Runner

#: Images that may wait; more are not run, and counted as skipped.
WAITING = 64


class Shadow:
    """Runs images that the deployed model has answered through ``runner`` too, on a thread of its own."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._waiting: queue.Queue[tuple[NDArray[np.float32], int] | None] = queue.Queue(WAITING)
        self.agreed = self.compared = self.skipped = self.failed = 0
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
        self._thread.start()

    def offer(self, image: NDArray[np.float32], answer: int) -> None:
        """Compare one image ``(1, …)`` when there is time; never waits."""
        try:
            self._waiting.put_nowait((image, answer))
        except queue.Full:
            self.skipped += 1

    @property
    def agreement(self) -> tuple[float, float, float]:
        """Return the share of same answers with its 95 % interval (Wilson 1927); NaN before the first."""
        n = self.compared
        if n == 0:
            return (float("nan"),) * 3
        share, z = self.agreed / n, 1.959964
        centre, spread = share + z * z / (2 * n), z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
        return share, float((centre - spread) / (1 + z * z / n)), float((centre + spread) / (1 + z * z / n))

    def settle(self) -> None:
        """Wait until everything offered has been compared."""
        self._waiting.join()

    def close(self) -> None:
        """Finish what waits, and end."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (entry := self._waiting.get()) is not None:
            image, answer = entry
            try:
                theirs = int(self._runner.logits(from_numpy(image)).argmax())
                self.agreed += theirs == answer
                self.compared += 1
            except Exception:  # the shadow must not take the service down
                self.failed += 1
            self._waiting.task_done()
        self._waiting.task_done()
