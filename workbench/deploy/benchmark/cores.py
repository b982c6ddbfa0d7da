"""Which cores a measurement runs on: the idlest, one of each physical core before its siblings; who else uses them."""

from __future__ import annotations

import os
import time
from pathlib import Path

from workbench.counting import counted
from workbench.errors import WorkbenchError

#: Seconds for which the cores are watched before the idlest are chosen.
_WATCH = 0.1


def choose_cores(count: int) -> tuple[int, ...]:
    """Return ``count`` cores that this process may use; raise ``WorkbenchError`` where there are fewer."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    if not 1 <= count <= len(allowed):
        cores = counted(len(allowed), "core")
        raise WorkbenchError(f"{count} threads were asked for, and this process may use {cores}: give 1 to {cores}.")
    before = busy_ticks()
    time.sleep(_WATCH)
    after = busy_ticks()
    load = {core: after.get(core, 0) - before.get(core, 0) for core in allowed}
    ordered = sorted(allowed, key=lambda core: (load[core], core))
    physical = [_physical(core) for core in ordered]
    firsts = [core for place, core in enumerate(ordered) if physical[place] not in physical[:place]]
    rest = [core for core in ordered if core not in firsts]
    return tuple(sorted([*firsts, *rest][:count]))


def busy_ticks() -> dict[int, int]:
    """Return core → ticks (1/100 s) that it was not idle since the system started; empty where unknown.

    Time that the hypervisor gave to others (steal) counts as busy.
    """
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return {}
    rows = [line.split() for line in lines if line.startswith("cpu") and line[3].isdigit()]
    return {int(row[0][3:]): sum(map(int, row[1:4])) + sum(map(int, row[6:9])) for row in rows}


class OtherWork:
    """Watches, from when it is made, what share of all cores' time other processes take."""

    def __init__(self) -> None:
        self._ticks, self._own, self._start = busy_ticks(), time.process_time(), time.perf_counter()

    @property
    def share(self) -> float:
        """The share so far, 0 to 1; 0 where the system does not tell."""
        ticks = busy_ticks()
        busy = sum(count - self._ticks.get(core, count) for core, count in ticks.items()) / 100
        spent = (time.perf_counter() - self._start) * max(1, len(ticks))
        return min(1.0, max(0.0, (busy - (time.process_time() - self._own)) / spent)) if ticks else 0.0


def _physical(core: int) -> str:
    path = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
    try:
        return path.read_text().strip()
    except OSError:
        return str(core)
