"""What more processes would give, from the times of the layers and of the sums."""

from __future__ import annotations

from dataclasses import dataclass

from .plan import SharePlan


@dataclass(frozen=True)
class Exchange:
    """What two processes spend on sums for a microbatch: in all, and on as many sums of nothing."""

    total_ms: float
    empty_ms: float

    def of(self, processes: int) -> float:
        """Return the milliseconds for more processes, in a ring.

        A ring of N takes ``2 (N - 1)`` steps, each with a 1/N of the bytes (Patarasuk & Yuan 2009): the steps
        grow as ``N - 1``, the bytes as ``2 (N - 1) / N``, both 1 for two processes.
        """
        carried = max(0.0, self.total_ms - self.empty_ms)
        return min(self.empty_ms, self.total_ms) * (processes - 1) + carried * 2 * (processes - 1) / processes


@dataclass(frozen=True)
class ShareForecast:
    """``speedup`` over one process on one core, and ``efficiency``: its share of the number of processes."""

    processes: int
    speedup: float

    @property
    def efficiency(self) -> float:
        """Return the speed-up a process."""
        return self.speedup / self.processes


def forecast_shares(plan: SharePlan, most: int, exchange: Exchange, slower: float = 1.0) -> list[ShareForecast]:
    """Return the speed-up to expect of 2 to ``most`` processes on as many cores.

    ``slower``: by how much part of a layer takes longer than that part of its time.
    """
    found = []
    for processes in range(2, most + 1):
        parts = sum(share.ms * share.largest(processes) for share in plan.shares)
        ms = plan.total_ms - plan.shared_ms + slower * parts + exchange.of(processes)
        found.append(ShareForecast(processes, plan.total_ms / ms))
    return found


def slower_of(plan: SharePlan, processes: int, exchange: Exchange, speedup: float) -> float:
    """Return the factor with which ``forecast_shares`` gives a measured ``speedup``; 0 at least."""
    parts = sum(share.ms * share.largest(processes) for share in plan.shares)
    spent = plan.total_ms / speedup - (plan.total_ms - plan.shared_ms) - exchange.of(processes)
    return max(0.0, spent / parts)
