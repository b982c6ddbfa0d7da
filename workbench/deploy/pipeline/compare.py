"""A pipeline beside one process: what it gains, or why it gains nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from workbench.deploy.benchmark.cores import OtherWork
from workbench.run.one_thread import one_thread

from .predict import Forecast, forecast, overhead_of
from .run import PipelineRun, require_cores, run_pipeline
from .stages import balance, measure_blocks, stage_times

#: Stages that are foretold.
MOST_STAGES = 8
#: A pipeline that is this much slower than its stages' balance allows is held up by what it sends.
_HELD_UP = 0.15
#: From this share of the cores' time on, other work is why.
_BUSY = 0.1


@dataclass(frozen=True)
class PipelineComparison:
    """One process and several, on the same microbatches; ``stage_ms`` are a microbatch's, measured in one.

    ``others`` is the share of the cores' time that other work took before the processes began.
    """

    alone: PipelineRun
    pipeline: PipelineRun
    stage_ms: tuple[float, ...]
    images: int
    microbatch: int
    microbatches: int
    forecast: tuple[Forecast, ...]
    others: float = 0.0

    @property
    def speedup(self) -> float:
        """Throughput of the pipeline ÷ that of one process."""
        return self.pipeline.throughput / self.alone.throughput

    @property
    def equal(self) -> bool:
        """Whether both give the same logits, to rounding."""
        return bool(np.allclose(self.alone.logits, self.pipeline.logits, atol=1e-4))

    @property
    def reason(self) -> str:
        """What bounds the speed-up, in words."""
        stages = len(self.stage_ms)
        balance_bound = sum(self.stage_ms) / max(self.stage_ms)
        fill = self.microbatches / (self.microbatches + stages - 1)
        bound = balance_bound * fill
        said = (
            f"At most {bound:.2f}× is possible: the slowest stage has {max(self.stage_ms) / sum(self.stage_ms):.0%} of "
            f"the work, and filling and emptying leaves {fill:.0%} of the time."
        )
        if self.speedup < (1 - _HELD_UP) * bound and self.others > _BUSY:
            said += (
                f" Measured was {self.speedup:.2f}×, while other work took {self.others:.0%} of the cores' time: a "
                "pipeline needs a core for each stage; run it again when the machine is idle."
            )
        elif self.speedup < (1 - _HELD_UP) * bound:
            said += (
                f" Measured was {self.speedup:.2f}×: a microbatch takes {max(self.stage_ms):.1f} ms a stage, so that "
                "handing it over weighs; larger microbatches or a larger model help."
            )
        return said

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "images": self.images, "microbatch": self.microbatch, "microbatches": self.microbatches,
            "stages": len(self.stage_ms), "stage_ms": list(self.stage_ms), "alone": self.alone.to_json(),
            "pipeline": self.pipeline.to_json(), "speedup": self.speedup, "equal": self.equal, "reason": self.reason,
            "others": self.others,
            "forecast": [{**asdict(entry), "efficiency": entry.efficiency} for entry in self.forecast],
        }  # fmt: skip


def compare_pipeline(
    module: nn.Module,
    images: Tensor,
    stages: int,
    *,
    microbatch: int = 16,
    microbatches: int = 8,
    rounds: int = 3,
    tell: Callable[[float], None] = lambda share: None,
) -> PipelineComparison:
    """Balance ``module`` on ``stages`` processes by measured times, run both ways, and foretell more stages.

    ``images`` are normalised, as many as ``run_pipeline`` asks for; ``tell`` hears the share done, and may raise to
    give up. Raises ``PipelineError``.
    """
    require_cores(stages)
    watch = OtherWork()
    with one_thread():
        blocks = measure_blocks(module, images[:microbatch])
    others, cuts = watch.share, balance(blocks, stages)
    tell(0.1)
    alone = run_pipeline(module, images, microbatch=microbatch, microbatches=microbatches, rounds=rounds)
    tell(0.5)
    several = run_pipeline(module, images, cuts, microbatch=microbatch, microbatches=microbatches, rounds=rounds)
    tell(1.0)
    overhead = overhead_of(blocks, cuts, microbatches, several.throughput / alone.throughput)
    return PipelineComparison(
        alone, several, tuple(stage_times(blocks, cuts)), len(images), microbatch, microbatches,
        tuple(forecast(blocks, MOST_STAGES, microbatches, overhead)), others,
    )  # fmt: skip
