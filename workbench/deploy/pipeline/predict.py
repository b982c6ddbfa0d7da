"""What more stages would give, from the times of the blocks and of what is sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .stages import Block, balance, stage_times


@dataclass(frozen=True)
class Forecast:
    """``speedup`` over one process on one core, and ``efficiency``: its share of the number of stages."""

    stages: int
    cuts: tuple[str, ...]
    speedup: float

    @property
    def efficiency(self) -> float:
        """Return the speed-up a stage."""
        return self.speedup / self.stages


def forecast(blocks: Sequence[Block], most: int, microbatches: int, overhead_ms: float = 0.0) -> list[Forecast]:
    """Return the speed-up to expect of 2 to ``most`` stages with that many microbatches a batch.

    ``overhead_ms`` is what handing a microbatch over costs a stage beside its layers. A batch takes
    ``(microbatches + stages - 1)`` turns of the slowest stage (Huang et al. 2019, "GPipe", section 2.3).
    """
    total = sum(block.ms for block in blocks)
    found = []
    for stages in range(2, min(most, len(blocks)) + 1):
        cuts = balance(blocks, stages)
        turn = max(stage_times(blocks, cuts)) + overhead_ms
        speedup = microbatches * total / ((microbatches + stages - 1) * turn)
        found.append(Forecast(stages, tuple(cuts), speedup))
    return found


def overhead_of(blocks: Sequence[Block], cuts: Sequence[str], microbatches: int, speedup: float) -> float:
    """Return the overhead of a turn, in ms, with which ``forecast`` gives a measured ``speedup``; 0 at least."""
    total, slowest = sum(block.ms for block in blocks), max(stage_times(blocks, cuts))
    turn = microbatches * total / ((microbatches + len(cuts)) * speedup)
    return max(0.0, turn - slowest)
