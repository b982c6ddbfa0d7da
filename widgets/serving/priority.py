"""Kernels stand back behind the server, and a browser on this machine, which only pass on what they found.

With eight kernels at work these would otherwise get a tenth of the processor, and what was computed long ago
would wait to be shown. On Linux only, and where it is allowed; elsewhere all are alike.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

#: How much a kernel stands back, each thread and the whole. Linux shares the processor between sessions, in the sense
#: of ``setsid``, before it looks at niceness within them (sched(7), "The autogroup feature"), and a kernel is a session
#: of its own. More would starve it where other programs compute.
NICENESS = 5
#: Seconds between two changes that Linux allows to who isn't root, and how often one is tried.
PAUSE, TRIES = 0.11, 5


async def step_back(process: int) -> None:
    """Lower the priority of a new process; threads that it starts later inherit it."""
    with contextlib.suppress(OSError, AttributeError):
        priority = os.getpriority(os.PRIO_PROCESS, 0) + NICENESS
        for thread in Path(f"/proc/{process}/task").iterdir():
            os.setpriority(os.PRIO_PROCESS, int(thread.name), priority)
    group = Path(f"/proc/{process}/autogroup")
    for _ in range(TRIES):
        with contextlib.suppress(FileNotFoundError, PermissionError, ProcessLookupError):
            try:
                group.write_text(str(NICENESS))
            except BlockingIOError:
                await asyncio.sleep(PAUSE)
                continue
        return
