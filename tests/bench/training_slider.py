"""How long a slider's first figures take while a training runs, against the same moves while it rests.

One training is let on and paused in turns, so that whatever else the machine does falls on both alike. A move's
time ends at its first Snapshot (size and latency) and at the first that has a sampled accuracy. The figure is
the ratio of the medians, with a bootstrap interval.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass, field

import numpy as np
import torch

from tests.bench.figures import first_figures
from tests.bench.record import Figure, keep
from workbench.data.load import load_dataset
from workbench.models.load import load_model
from workbench.recipe import Recipe
from workbench.session import Session
from workbench.train.jobs.job import TrainingJob, train

MODEL, DATA, MOST = "resnet20", "fashion_mnist", 2.0
TRAINED = "- prune: {ratio: 0.9}\n- finetune: {epochs: 1000, learning_rate: 0.001}"
TURNS, MOVES, SAMPLES = 6, 20, 2000
#: Seconds for a paused worker to come to rest, or a resumed one to get going.
SETTLE = 1.0


@dataclass
class Times:
    """Milliseconds of every move, to the first Snapshot and to the first sampled accuracy."""

    size: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)


def main() -> int:
    """Print and keep the ratios; return 1 where one is too high."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=TURNS, help="each with moves at rest and beside the training")
    parser.add_argument("--moves", type=int, default=MOVES)
    options = parser.parse_args()
    torch.set_num_threads(max(1, (os.cpu_count() or 2) // 2))
    begin, chance = time.perf_counter(), np.random.default_rng(0)
    idle, busy = Times(), Times()
    data = load_dataset(DATA)
    job = train(load_model(MODEL), data, Recipe.parse(TRAINED))
    try:
        with Session(MODEL, data, history=":memory:") as session:
            session.measure()
            _wait_for(job)
            for _ in range(options.turns):
                for times in (idle, busy):
                    _let(job, times is busy)
                    for ratio in chance.uniform(0.1, 0.9, options.moves):
                        _move(session, ratio, times)
    finally:
        job.resume()
        job.cancel()
        job.wait(60)
    figures = [
        _figure("first figures (size, latency)", idle.size, busy.size),
        _figure("first sampled accuracy", idle.accuracy, busy.accuracy),
    ]
    runs = [{"training": name, **vars(times)} for name, times in (("paused", idle), ("running", busy))]
    keep("training_slider", figures, data=DATA, seeds=[0], seconds=time.perf_counter() - begin, runs=runs)
    return 0 if all(figure.reached for figure in figures) else 1


def _wait_for(job: TrainingJob) -> None:
    while job.running and job.before is None:
        job.wait(0.1)
    if not job.running:
        job.result()
        raise RuntimeError("the training ended before anything was measured")


def _let(job: TrainingJob, run: bool) -> None:
    if not job.running:
        raise RuntimeError("the training ended while moves were measured")
    (job.resume if run else job.pause)()
    job.wait(SETTLE)


def _move(session: Session, ratio: float, times: Times) -> None:
    """Move the slider and add the times until its first figures; wait for the accuracy, not for the rest."""
    came = first_figures(session, Recipe.parse(f"- prune: {{ratio: {ratio:.4f}}}"), "size", "accuracy")
    times.size.append(round(came["size"], 2))
    times.accuracy.append(round(came["accuracy"], 2))


def _figure(what: str, idle: list[float], busy: list[float]) -> Figure:
    chance = np.random.default_rng(0)
    found = [
        np.median(chance.choice(busy, len(busy))) / np.median(chance.choice(idle, len(idle))) for _ in range(SAMPLES)
    ]
    low, high = np.percentile(found, (2.5, 97.5))
    before, after = float(np.median(idle)), float(np.median(busy))
    ratio = after / before
    load = os.getloadavg()[0]
    measured = (
        f"{ratio:.2f}× ({low:.2f} to {high:.2f}): {before:.1f} ms, {after:.1f} ms beside a training; "
        f"{load:.0f} processes wanted to run on {os.cpu_count()} cores"
    )
    return Figure(f"Slider's {what} while a job runs", f"≤ {MOST:g}× of idle", measured, ratio <= MOST)


if __name__ == "__main__":
    sys.exit(main())
