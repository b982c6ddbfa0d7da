"""A pipeline run for real, and one process to compare it with."""

from __future__ import annotations

import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from workbench.run.children import child_environment

from .stages import PipelineError
from .worker import IMAGES, LOGITS, PLAN, figures_file, module_file

#: A run that takes longer hangs: a stage waits for one that died.
SECONDS = 600.0


@dataclass(frozen=True)
class StageFigures:
    """Of one process: bytes of its weights, and of its peak memory above that of the libraries alone (0 where the
    system doesn't tell); milliseconds a microbatch that it added outputs up with the others, and that as many
    sums of nothing take (0 in a pipeline)."""

    weights: int
    peak: int
    sums_ms: float = 0.0
    empty_sums_ms: float = 0.0


@dataclass(frozen=True)
class PipelineRun:
    """``throughput`` in images a second, the median of the rounds; ``logits`` ``(N, classes)``."""

    cuts: tuple[str, ...]
    throughput: float
    rounds: tuple[float, ...]
    stages: tuple[StageFigures, ...]
    logits: NDArray[np.float32]

    def to_json(self) -> dict[str, Any]:
        """Return plain data, without the logits."""
        return {
            "cuts": list(self.cuts), "throughput": self.throughput, "rounds": list(self.rounds),
            "stages": [asdict(stage) for stage in self.stages],
        }  # fmt: skip


def run_pipeline(
    module: nn.Module,
    images: Tensor,
    cuts: Sequence[str] = (),
    *,
    microbatch: int = 16,
    microbatches: int = 8,
    rounds: int = 3,
) -> PipelineRun:
    """Run normalised ``images`` ``(N, C, H, W)`` through processes that begin at ``cuts``, each on one core.

    Without cuts it is one process on one core, with the same microbatches. ``N`` must be a multiple of
    ``microbatch × microbatches``: a schedule has a fixed number of them.

    Raises:
        PipelineError: there are fewer cores than stages, ``N`` does not fit, or a process failed, with its
            last words.
    """
    plan = {"way": "stages" if cuts else "alone", "cuts": list(cuts)}
    return run_processes([module] * (len(cuts) + 1), images, plan, microbatch, microbatches, rounds)


def run_processes(
    modules: Sequence[nn.Module], images: Tensor, plan: dict[str, Any], microbatch: int, microbatches: int, rounds: int
) -> PipelineRun:
    """Run ``images`` through a process for each of ``modules``, on a core each, as ``plan["way"]`` says.

    ``stages``: a pipeline of one module that begins anew at ``plan["cuts"]``; ``shares``: all run all images
    and add outputs up; ``alone``: one process. Raises ``PipelineError`` as ``run_pipeline`` does.
    """
    count, batch = len(modules), microbatch * microbatches
    require_cores(count)
    if len(images) == 0 or len(images) % batch:
        raise PipelineError(f"Give a multiple of {batch} images ({microbatches} microbatches of {microbatch}).")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _hand_over(modules, images, folder)
        told = {
            **plan, "processes": count, "microbatch": microbatch, "batch": batch, "rounds": rounds,
            "cores": usable_cores()[:count],
        }  # fmt: skip
        (folder / PLAN).write_text(json.dumps(told), encoding="utf-8")
        _finish([_start(folder, rank) for rank in range(count)])
        found = [json.loads((folder / figures_file(rank)).read_text(encoding="utf-8")) for rank in range(count)]
        logits = torch.load(folder / LOGITS, weights_only=True).numpy()
    speeds = tuple(len(images) / seconds for seconds in found[-1]["seconds"])
    passes = rounds * len(images) // microbatch
    figures = tuple(
        StageFigures(entry["weights"], entry["peak"] - entry["resident"],
                     1000 * entry["sums"] / passes, 1000 * entry["empty_sums"] / microbatches)
        for entry in found
    )  # fmt: skip
    return PipelineRun(tuple(plan.get("cuts", ())), statistics.median(speeds), speeds, figures, logits)


def usable_cores() -> list[int]:
    """Return the cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def require_cores(count: int) -> None:
    """Raise ``PipelineError`` where there are fewer cores than ``count``."""
    cores = usable_cores()
    if count > len(cores):
        raise PipelineError(f"{count} processes need {count} cores, and this process may use {len(cores)}.")


def _hand_over(modules: Sequence[nn.Module], images: Tensor, folder: Path) -> None:
    import cloudpickle

    for rank, module in enumerate(modules):
        try:
            content = cloudpickle.dumps(module)
        except Exception as error:  # whatever the person's classes raise
            raise PipelineError(f"The model cannot be handed to another process: {error}") from error
        (folder / module_file(rank)).write_bytes(content)
    buffer = io.BytesIO()
    torch.save(images.contiguous(), buffer)
    (folder / IMAGES).write_bytes(buffer.getvalue())


def _start(folder: Path, rank: int) -> subprocess.Popen[bytes]:
    with (folder / f"words{rank}").open("wb") as words:
        return subprocess.Popen(
            [sys.executable, "-m", "workbench.deploy.pipeline.worker", str(folder), str(rank)],
            stdout=words, stderr=subprocess.STDOUT, env=child_environment(threads=1), cwd=folder,
        )  # fmt: skip


def _finish(processes: list[subprocess.Popen[bytes]]) -> None:
    """Wait for all; where one fails, end the others, who would wait for it for ever."""
    deadline = time.monotonic() + SECONDS
    try:
        while any(process.poll() is None for process in processes):
            failed = [rank for rank, process in enumerate(processes) if process.poll() not in (None, 0)]
            if failed or time.monotonic() > deadline:
                break
            time.sleep(0.02)
        for rank, process in enumerate(processes):
            if process.poll() != 0:
                raise PipelineError(f"Process {rank + 1} of {len(processes)} failed: {_last_words(process, rank)}")
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _last_words(process: subprocess.Popen[bytes], rank: int) -> str:
    if process.poll() is None:
        return f"it did not end within {SECONDS:.0f} s."
    assert isinstance(process.args, list)
    words = Path(str(process.args[3])) / f"words{rank}"
    lines = [line for line in words.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else f"its process ended with status {process.returncode}."
