"""Processes that share layers beside one process: what that gains, or why it gains nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from workbench.counting import counted
from workbench.deploy.pipeline.compare import MOST_STAGES
from workbench.deploy.pipeline.run import PipelineRun, run_pipeline, run_processes
from workbench.deploy.pipeline.stages import PipelineError
from workbench.run.one_thread import one_thread

from .parts import part_of
from .plan import SharePlan, plan_shares
from .predict import Exchange, ShareForecast, forecast_shares, slower_of


@dataclass(frozen=True)
class ShareComparison:
    """One process and several, on the same microbatches."""

    alone: PipelineRun
    shared: PipelineRun
    plan: SharePlan
    images: int
    microbatch: int
    microbatches: int
    forecast: tuple[ShareForecast, ...]

    @property
    def speedup(self) -> float:
        """Throughput of all processes ÷ that of one."""
        return self.shared.throughput / self.alone.throughput

    @property
    def equal(self) -> bool:
        """Whether both give the same logits, to rounding."""
        return bool(np.allclose(self.alone.logits, self.shared.logits, rtol=1e-4, atol=1e-4))

    @property
    def waiting(self) -> float:
        """Share of the time that goes to sums, told by the process that waited least for the others."""
        pass_ms = 1000 * self.microbatch / self.shared.throughput
        return min(1.0, min(entry.sums_ms for entry in self.shared.stages) / pass_ms)

    @property
    def exchange(self) -> Exchange:
        """What sums take of a microbatch, in the milliseconds of the plan.

        The layers' parts take their share of the layers' time at least; what is spent beyond that and beyond
        sums is put down to the parts (``slower_of``).
        """
        least = min(self.shared.stages, key=lambda entry: entry.sums_ms)
        spent = self.plan.total_ms / self.speedup
        total = max(0.0, min(self.waiting * spent, spent - self._computing))
        empty = least.empty_sums_ms / least.sums_ms if least.sums_ms else 0.0
        return Exchange(total, min(1.0, empty) * total)

    @property
    def _computing(self) -> float:
        """Milliseconds that the largest part computes for, if the parts of a layer took their share of its time."""
        parts = sum(share.ms * share.largest(len(self.shared.stages)) for share in self.plan.shares)
        return self.plan.total_ms - self.plan.shared_ms + parts

    @property
    def reason(self) -> str:
        """What bounds the speed-up, in words."""
        plan, sums = self.plan, sum(len(share.summed) for share in self.plan.shares)
        return (
            f"At most {plan.total_ms / self._computing:.2f}× is possible: {plan.shared_ms / plan.total_ms:.0%} of the "
            f"time is in layers that can be shared out. Measured was {self.speedup:.2f}×: adding up the outputs of "
            f"{counted(sums, 'layer')}, and waiting for the other process, takes {self.waiting:.0%} of "
            "the time."
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "images": self.images, "microbatch": self.microbatch, "microbatches": self.microbatches,
            "processes": len(self.shared.stages), "alone": self.alone.to_json(), "shared": self.shared.to_json(),
            "shares": [share.to_json() for share in self.plan.shares],
            "total_ms": self.plan.total_ms, "speedup": self.speedup, "equal": self.equal, "reason": self.reason,
            "forecast": [{**asdict(entry), "efficiency": entry.efficiency} for entry in self.forecast],
        }  # fmt: skip


def compare_shares(
    module: nn.Module, images: Tensor, processes: int, *, microbatch: int = 16, microbatches: int = 8, rounds: int = 3
) -> ShareComparison:
    """Share ``module``'s layers among ``processes``, run both ways, and foretell more processes.

    ``images`` are normalised, as many as ``run_pipeline`` asks for. Raises ``PipelineError``.
    """
    if processes < 2:
        raise PipelineError("Layers are shared among 2 processes or more.")
    with one_thread():
        plan = plan_shares(module, images[:microbatch], processes)
    alone = run_pipeline(module, images, microbatch=microbatch, microbatches=microbatches, rounds=rounds)
    parts = [part_of(module, plan, place, processes) for place in range(processes)]
    shared = run_processes(parts, images, {"way": "shares"}, microbatch, microbatches, rounds)
    found = ShareComparison(alone, shared, plan, len(images), microbatch, microbatches, ())
    slower = slower_of(plan, processes, found.exchange, found.speedup)
    forecast = forecast_shares(plan, MOST_STAGES, found.exchange, slower)
    return ShareComparison(alone, shared, plan, len(images), microbatch, microbatches, tuple(forecast))
