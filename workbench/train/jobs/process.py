"""Where a training runs: in a process of its own, or in this one.

Both take a Request, tell how far they are, and can be paused, let on and stopped. A process of its own is the
rule: the page stays instant, and a crash harms nothing. In this process a small training starts without the
seconds that loading PyTorch takes; it shares its cores and its chance with everything else here.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, Protocol

from workbench.errors import WorkbenchError
from workbench.jobs import Cancelled
from workbench.run.children import child_environment

from ..loop.loop import Stopped
from .worker import Request, work


class Interrupted(WorkbenchError):
    """A training that another one, or the end of its process, kept from its end: started again, it may come to it."""


Follow = Callable[[dict[str, Any]], None]


class Place(Protocol):
    """Where one training runs."""

    def run(self, request: Request, follow: Follow) -> None:
        """Train to the end; raises ``Cancelled``, or ``WorkbenchError`` with the reason of a failure."""

    def pause(self) -> None:
        """Let the training rest."""

    def resume(self) -> None:
        """Let it go on."""

    def stop(self) -> None:
        """End it; its checkpoint is kept."""


class Apart:
    """A process of its own."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self._wished: list[bytes] = []

    def run(self, request: Request, follow: Follow) -> None:
        """Run a worker to its end; see ``Place``."""
        process = self.process = _start(request)
        for command in self._wished[-1:]:  # what was said before there was anyone to hear it
            self._tell(command)
        assert process.stdout is not None
        last: dict[str, Any] = {}
        try:
            for line in process.stdout:
                last = json.loads(line)
                if last["kind"] == "course":
                    follow(last)
        finally:
            if process.stdin is not None:
                with contextlib.suppress(OSError):
                    process.stdin.close()
            process.stdout.close()
            process.wait()
            self.process = None
        if last.get("kind") == "stopped":
            raise Cancelled
        if last.get("kind") == "failed":
            raise WorkbenchError(str(last["error"]))
        if last.get("kind") != "done":
            raise Interrupted("The training's process ended by itself; start it again to go on from there.")

    def pause(self) -> None:
        """Let the worker rest; its memory is kept."""
        self._tell(b"pause\n")

    def resume(self) -> None:
        """Let the worker go on."""
        self._tell(b"resume\n")

    def stop(self) -> None:
        """End the worker."""
        self._tell(b"stop\n")

    def _tell(self, command: bytes) -> None:
        self._wished.append(command)
        process = self.process
        if process is not None and process.stdin is not None:
            with contextlib.suppress(OSError, ValueError):
                process.stdin.write(command)
                process.stdin.flush()


class Within:
    """This process, on the thread that calls ``run``."""

    def __init__(self) -> None:
        self._going = threading.Event()
        self._going.set()
        self._stopped = False

    def run(self, request: Request, follow: Follow) -> None:
        """Train on this thread; see ``Place``."""

        def check() -> None:
            self._going.wait()
            if self._stopped:
                raise Stopped

        try:
            work(request, check, follow)
        except Stopped as stopped:
            raise Cancelled from stopped

    def pause(self) -> None:
        """Let the training rest."""
        self._going.clear()

    def resume(self) -> None:
        """Let it go on."""
        self._going.set()

    def stop(self) -> None:
        """End it."""
        self._stopped = True
        self._going.set()


def _start(request: Request) -> subprocess.Popen[bytes]:
    import cloudpickle  # by value where a class was made in a notebook

    worker = subprocess.Popen(
        [sys.executable, "-m", "workbench.train.jobs.worker"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=child_environment(),
        process_group=0,  # Ctrl-C is for this process; the worker keeps what it has once its input ends
    )  # fmt: skip
    asked = cloudpickle.dumps(request)
    assert worker.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        worker.stdin.write(len(asked).to_bytes(8, "big") + asked)
        worker.stdin.flush()
    return worker
