"""The parent's end of a worker process: start it, ask it, end it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.run.children import child_environment

from .engines import EngineError, Runtime


@dataclass(frozen=True)
class Request:
    """A file to be timed: in which runtime, on which cores, with how many threads and inputs."""

    path: Path
    runtime: Runtime
    cores: tuple[int, ...]
    batch: int = 1
    shape: tuple[int, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain data for the worker."""
        return {
            "path": str(self.path), "runtime": self.runtime.name, "cores": list(self.cores),
            "threads": len(self.cores), "batch": self.batch, "shape": self.shape,
        }  # fmt: skip


class Worker:
    """A fresh process that holds one file open. ``about``: what it told when it had run once."""

    def __init__(self, request: Request) -> None:
        self._request = request
        environment = child_environment(threads=len(request.cores))
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "workbench.deploy.benchmark.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, env=environment, text=True,
        )  # fmt: skip
        try:
            self.about = self.ask(json.dumps(request.to_json()))
        except BaseException:
            self.close()
            raise

    def ask(self, command: str) -> dict[str, Any]:
        """Send a command and return its answer; raise ``EngineError`` where the worker could not."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{command}\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"kind": "failed", "error": self._last_words()}
        if answer["kind"] == "failed":
            raise EngineError(answer["error"])
        return answer

    def close(self) -> None:
        """End the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        said = f": {lines[-1][:300]}" if lines else ""
        name = self._request.path.name
        return f"The process that ran '{name}' in {self._request.runtime.name} ended by itself{said}."
