"""Which layers each process runs, so that the slowest has as little to do as can be."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from workbench.counting import counted
from workbench.errors import WorkbenchError

_ROUNDS, _WARM = 5, 2


class PipelineError(WorkbenchError):
    """A model could not be run as a pipeline."""


@dataclass(frozen=True)
class Block:
    """A module at whose beginning a stage may begin; ``ms``: from there to the next block's beginning."""

    name: str
    ms: float


def measure_blocks(module: nn.Module, images: Tensor) -> list[Block]:
    """Return the modules at which ``module`` may be cut, in the order they run, with their times.

    A module counts where it runs once and lies in no other that is a layer itself: a cut inside a residual
    block would send its shortcut too. Times are medians for one batch ``images`` on the present threads.
    """
    calls = _calls(module, images)
    names = [name for name, _ in calls]
    chosen = [name for name in names if names.count(name) == 1]
    rounds: dict[str, list[float]] = {name: [] for name in chosen}
    for turn in range(_WARM + _ROUNDS):
        starts = [(name, start) for name, start in _calls(module, images) if name in rounds]
        ends = [start for _, start in starts[1:]] + [time.perf_counter()]
        if turn >= _WARM:
            for (name, start), end in zip(starts, ends, strict=True):
                rounds[name].append(1000 * (end - start))
    return [Block(name, statistics.median(times)) for name, times in rounds.items()]


def balance(blocks: Sequence[Block], stages: int) -> list[str]:
    """Return the names of the blocks at which stages 2, 3, … begin, so that the slowest stage is quickest.

    Solved exactly by dynamic programming over where the last stage begins. Raises ``PipelineError`` where
    there are fewer blocks than stages.

    >>> balance([Block("a", 3.0), Block("b", 1.0), Block("c", 1.0), Block("d", 2.0)], 2)
    ['b']
    """
    if not 1 <= stages <= len(blocks):
        raise PipelineError(
            f"A model of {counted(len(blocks), 'block')} cannot be cut into {counted(stages, 'stage')}."
        )
    sums = [0.0]
    for block in blocks:
        sums.append(sums[-1] + block.ms)
    count = len(blocks)
    slowest = [list(sums)]  # slowest[s][end]: the slowest of s + 1 stages that hold the first `end` blocks
    begins: list[list[int]] = [[0] * (count + 1)]
    for _ in range(1, stages):
        row, begin = [float("inf")] * (count + 1), [0] * (count + 1)
        for end in range(1, count + 1):
            for start in range(1, end):
                worst = max(slowest[-1][start], sums[end] - sums[start])
                if worst < row[end]:
                    row[end], begin[end] = worst, start
        slowest.append(row)
        begins.append(begin)
    cuts, end = [], count
    for stage in range(stages - 1, 0, -1):
        end = begins[stage][end]
        cuts.append(blocks[end].name)
    return cuts[::-1]


def stage_times(blocks: Sequence[Block], cuts: Sequence[str]) -> list[float]:
    """Return each stage's milliseconds for a batch."""
    times = [0.0]
    for block in blocks:
        if block.name in cuts:
            times.append(0.0)
        times[-1] += block.ms
    return times


def _calls(module: nn.Module, images: Tensor) -> list[tuple[str, float]]:
    """Return the names of the blocks that one pass runs, in order, each with the time it began."""
    seen: list[tuple[str, float]] = []

    def begins(name: str) -> Any:
        return lambda *_: seen.append((name, time.perf_counter()))

    handles = [block.register_forward_pre_hook(begins(name)) for name, block in _blocks(module)]
    try:
        with torch.inference_mode():
            module(images)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _blocks(module: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    """Return the modules below containers: what a Sequential or a list holds, and other direct children."""
    found = []
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        if isinstance(child, nn.Sequential | nn.ModuleList):
            found += _blocks(child, f"{path}.")
        else:
            found.append((path, child))
    return found
