"""One of several processes that run a model: ``python -m workbench.deploy.pipeline.worker FOLDER RANK``.

The folder holds its module, the images and how to run them; the process leaves its figures there, and the
last one the logits. It is pinned to a core of its own and computes on one thread.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from workbench.deploy.benchmark.memory import forget_peak, peak_bytes, resident_bytes

from .sums import AllReduce

#: Files of the folder.
IMAGES, PLAN, LOGITS, MEETING = "images.pt", "plan.json", "logits.pt", "meeting"


def module_file(rank: int) -> str:
    """Return the name of the file with the module of one process."""
    return f"module{rank}.pickle"


def figures_file(rank: int) -> str:
    """Return the name of the file with the figures of one process."""
    return f"figures{rank}.json"


def main() -> int:
    """Run one process's part and return the exit status."""
    folder, rank = Path(sys.argv[1]), int(sys.argv[2])
    plan = json.loads((folder / PLAN).read_text(encoding="utf-8"))
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {plan["cores"][rank]})
    import cloudpickle
    import torch

    torch.set_num_threads(1)
    before = resident_bytes() or 0
    module = cloudpickle.loads((folder / module_file(rank)).read_bytes()).eval()
    images = torch.load(folder / IMAGES, weights_only=True)
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if plan["way"] != "alone":
            torch.distributed.init_process_group(
                "gloo", init_method=f"file://{folder / MEETING}", rank=rank, world_size=plan["processes"]
            )
        run = _stage(module, images, plan, rank) if plan["way"] == "stages" else _whole(module, plan)
        run(images[: plan["batch"]])  # warm-up
        gc.collect()
        forget_peak()  # tracing took memory that running does not
        outputs: list[torch.Tensor] = []
        seconds = []
        AllReduce.seconds = 0.0
        for _ in range(plan["rounds"]):
            outputs = []
            start = time.perf_counter()
            for batch in images.split(plan["batch"]):
                outputs.append(run(batch))
            seconds.append(time.perf_counter() - start)
        told = {
            "seconds": seconds, "resident": before, "peak": peak_bytes() or 0, "weights": run.weights,
            "sums": AllReduce.seconds, "empty_sums": _empty_sums(run, images[: plan["batch"]], plan["way"]),
        }  # fmt: skip
    if rank == plan["processes"] - 1:
        torch.save(torch.cat(outputs), folder / LOGITS)
    (folder / figures_file(rank)).write_text(json.dumps(told), encoding="utf-8")
    if plan["way"] != "alone":
        torch.distributed.destroy_process_group()
    return 0


class _Run:
    """Runs a batch and gives the logits where this process has them; ``weights``: bytes of its own."""

    def __init__(self, call: Any, module: Any) -> None:
        self._call = call
        self.weights = sum(tensor.nbytes for tensor in module.state_dict().values())

    def __call__(self, batch: Any) -> Any:
        return self._call(batch)


def _whole(module: Any, plan: dict[str, Any]) -> _Run:
    import torch

    def call(batch: Any) -> Any:
        return torch.cat([module(part) for part in batch.split(plan["microbatch"])])

    return _Run(call, module)


def _stage(module: Any, images: Any, plan: dict[str, Any], rank: int) -> _Run:
    import torch
    from torch.distributed.pipelining import ScheduleGPipe, SplitPoint, pipeline

    with torch.inference_mode(False), torch.no_grad():
        example = images[: plan["microbatch"]].clone()
        cuts = dict.fromkeys(plan["cuts"], SplitPoint.BEGINNING)
        stage = pipeline(module, mb_args=(example,), split_spec=cuts).build_stage(rank, torch.device("cpu"))
    schedule = ScheduleGPipe(stage, plan["batch"] // plan["microbatch"])

    def call(batch: Any) -> Any:
        found = schedule.eval(batch) if rank == 0 else schedule.eval()
        return torch.empty(0) if found is None else found

    return _Run(call, stage.submod)


def _empty_sums(run: _Run, batch: Any, way: str) -> float:
    """Return the seconds that as many sums as ``batch`` needs take of a single number each, the median of three."""
    import torch

    if way != "shares":
        return 0.0
    AllReduce.count = 0
    run(batch)
    number, seconds = torch.zeros(1), []
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(AllReduce.count):
            torch.distributed.all_reduce(number)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


if __name__ == "__main__":
    sys.exit(main())
