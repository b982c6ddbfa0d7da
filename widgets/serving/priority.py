"""Kernels stand back behind the server, and a browser on this machine, which only pass on what they found.

With eight kernels at work these would otherwise get a tenth of the processor, and what was computed long ago
would wait to be shown. On Linux only, and where it is allowed; elsewhere all are alike.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

import psutil

#: How much a kernel stands back (its niceness). More would starve it where other programs compute.
NICENESS = 5
#: Seconds between two changes that Linux allows to who isn't root, and how often one is tried.
PAUSE, TRIES = 0.11, 5


def step_back(process: int) -> None:
    """Lower the priority of the threads of a new process; those that it starts later inherit it."""
    with contextlib.suppress(OSError, AttributeError):
        priority = os.getpriority(os.PRIO_PROCESS, 0) + NICENESS
        for thread in Path(f"/proc/{process}/task").iterdir():
            os.setpriority(os.PRIO_PROCESS, int(thread.name), priority)


def processor_seconds(process: int) -> float:
    """Return the processor time that a process and those it started have taken; 0 where it has ended."""
    found = 0.0
    with contextlib.suppress(psutil.Error):
        parent = psutil.Process(process)
        for one in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                times = one.cpu_times()
                found += times.user + times.system
    return found


async def step_back_whole(process: int, niceness: int) -> None:
    """Let a process that leads a session stand back with all that it started, or, by 0, no longer.

    Linux shares the processor between sessions, in the sense of ``setsid``, before it looks at priorities within
    them (sched(7), "The autogroup feature"), and a kernel is a session of its own.
    """
    group = Path(f"/proc/{process}/autogroup")
    for _ in range(TRIES):
        try:
            group.write_text(str(niceness))
            return
        except BlockingIOError:
            await asyncio.sleep(PAUSE)
        except OSError:  # no such feature, no right to it, or no such process any more
            return
