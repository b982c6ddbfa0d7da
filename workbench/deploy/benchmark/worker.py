"""The process in which one file is timed: ``python -m workbench.deploy.benchmark.worker``.

A process of its own, so that neither threads, caches nor memory of another library colour the figures.
It reads a line of JSON, the request, from standard input, opens the file, runs it once and answers with a
line of JSON; then it answers one line for each command: ``visit`` with nanoseconds of runs, ``kernels``
with the operators. The end of its input ends it. What libraries print goes to standard error.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError
from workbench.measure.latency.measured import visit

from .engines import RUNTIMES, Engine, make_feeds
from .memory import forget_peak, peak_bytes, resident_bytes


def main() -> int:
    """Serve the parent until it closes the pipe."""
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def tell(kind: str, **what: Any) -> None:
        print(json.dumps({"kind": kind, **what}), file=told, flush=True)

    try:
        request = json.loads(sys.stdin.readline())
        opened = _Opened(request)
        tell("ready", **opened.about)
        for line in sys.stdin:
            command, *numbers = line.split()
            tell(command, **opened.answer(command, *map(int, numbers)))
    except BrokenPipeError:  # the parent is gone
        return 1
    except WorkbenchError as error:
        tell("failed", error=str(error))
        return 1
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0][:300]
        tell("failed", error=f"The runtime failed ({type(error).__name__}: {reason}).")
        return 1
    return 0


class _Opened:
    """A file opened in its runtime, run once."""

    def __init__(self, request: dict[str, Any]) -> None:
        if request["cores"] and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, request["cores"])  # before the runtime makes threads, which inherit it
        runtime = RUNTIMES[request["runtime"]]
        importlib.import_module(runtime.module)
        gc.collect()
        self._empty = resident_bytes()
        forget_peak()
        start = time.perf_counter_ns()
        self._engine: Engine = runtime.open(Path(request["path"]), request["threads"])
        opened = time.perf_counter_ns()
        shape = tuple(request["shape"]) if request["shape"] else None
        self._feeds = make_feeds(self._engine.inputs, request["batch"], shape)
        self._run: Callable[[], Any] = self._engine.bind(self._feeds)
        bound = time.perf_counter_ns()
        self._run()
        self.about = {
            "version": self._engine.version, "load_ms": (opened - start) / 1e6,
            "first_ms": (time.perf_counter_ns() - bound) / 1e6,
            "inputs": {name: list(value.shape) for name, value in self._feeds.items()},
        }  # fmt: skip

    def answer(self, command: str, lasting: int = 0) -> dict[str, Any]:
        """Return what a command asks for."""
        if command == "kernels":
            return {"rows": [row.to_json() for row in self._engine.kernels(self._feeds)]}
        before, cpu = resource.getrusage(resource.RUSAGE_SELF), time.process_time()
        times = visit(self._run, lasting, 3)
        after = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "ns": times, "cpu": time.process_time() - cpu, "switches": after.ru_nivcsw - before.ru_nivcsw,
            "empty_bytes": self._empty, "peak_bytes": peak_bytes(),
        }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
