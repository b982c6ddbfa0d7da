"""The monitor on a million predictions: its cost, its memory, its false alarms, and how soon it finds a change.

The cost is that of ResNet-20's int8 file, one image at a time, watched and not watched in turns. The million
are LeNet-5's answers to test images drawn at random, against a reference of the validation split.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from workbench.data.load import load_dataset
from workbench.deploy.benchmark.memory import resident_bytes
from workbench.deploy.monitor.reference import Reference
from workbench.deploy.monitor.watch import WINDOW, Monitor
from workbench.recipe import Recipe
from workbench.run.runner import OnnxRunner
from workbench.session import Session

INT8 = "- quantize: {bits: 8, scheme: symmetric, activations: {bits: 8}}"
PREDICTIONS, BLOCK, TRIALS, ROUNDS = 1_000_000, 500, 20, 41
MOST_COST, MOST_ALARMS, MOST_MB, SOON = 0.03, 1e-5, 5.0, 1_000
#: Changes of normalised images, and whether they must be found that soon; the small ones show where it ends.
CHANGES: dict[str, tuple[Callable[[Tensor], Tensor], bool]] = {
    "darker by 0.3": (lambda x: x - 0.3, True),
    "contrast × 0.8": (lambda x: 0.8 * x, True),
    "noise of 0.1": (lambda x: x + 0.1 * torch.randn_like(x), True),
    "contrast × 0.9": (lambda x: 0.9 * x, False),
    "darker by 0.1": (lambda x: x - 0.1, False),
}


def main() -> int:
    """Print the figures; return 1 where one is missed."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data, random = load_dataset("fashion_mnist"), np.random.default_rng(0)
    with Session("resnet20", data, history=":memory:") as session:
        runner = OnnxRunner(session.onnx_file(Recipe.parse(INT8)), 1)
        normal, images = (session.normalization(data[split].images) for split in ("validation", "test"))
    cost = _cost(runner, Reference.of(runner, normal[:2000]), images)
    print(f"cost of watching, ResNet-20 int8, one image at a time: {cost:.1%} (at most {MOST_COST:.0%})")
    with Session("lenet5", data, history=":memory:") as session:
        runner = OnnxRunner(session.onnx_file(Recipe.parse(INT8)), 1)
        normal, images = (session.normalization(data[split].images) for split in ("validation", "test"))
    reference = Reference.of(runner, normal)
    monitor = Monitor(runner, reference)
    for _ in range(20):
        monitor.logits(images[random.integers(0, len(images), BLOCK)])
    before, start = resident_bytes() or 0, time.perf_counter()
    while monitor.predictions < PREDICTIONS:
        monitor.logits(images[random.integers(0, len(images), BLOCK)])
    grown = ((resident_bytes() or 0) - before) / 2**20
    alarms = monitor.alarm_count / monitor.predictions
    print(
        f"{monitor.predictions:,} predictions in {time.perf_counter() - start:.0f} s: memory grew by {grown:.1f} MB, "
        f"{monitor.alarm_count} false alarms ({1e5 * alarms:.2f} in 100,000; at most {1e5 * MOST_ALARMS:.0f})"
    )
    missed = cost > MOST_COST or grown > MOST_MB or alarms > MOST_ALARMS
    for name, (change, must) in CHANGES.items():
        found = [_found(Monitor(runner, reference), change, images, random) for _ in range(TRIALS)]
        soon = sum(count <= SOON for count in found)
        median = statistics.median(found)
        told = "" if must else " (not asked)"
        print(f"{name}: found within {SOON:,} predictions in {soon} of {TRIALS} trials, median {median:.0f}{told}")
        missed |= must and soon < TRIALS
    return 1 if missed else 0


def _cost(runner: OnnxRunner, reference: Reference, images: Tensor) -> float:
    """Return the share of the processor's time that watching adds: the median over rounds in turns.

    A round is a window, with its statistics. The runtime computes on the calling thread, whose own time
    leaves out what others took meanwhile.
    """
    singles = images[:WINDOW].split(1)
    monitor = Monitor(runner, reference)

    def seconds(answer: Callable[[Tensor], object]) -> float:
        start = time.thread_time()
        for image in singles:
            answer(image)
        return time.thread_time() - start

    seconds(monitor.logits)
    rounds = []
    for turn in range(ROUNDS):
        if turn % 2:
            plain, watched = seconds(runner.logits), seconds(monitor.logits)
        else:
            watched, plain = seconds(monitor.logits), seconds(runner.logits)
        rounds.append(watched / plain)
    return statistics.median(rounds) - 1


def _found(monitor: Monitor, change: Callable[[Tensor], Tensor], images: Tensor, random: np.random.Generator) -> int:
    """Return how many changed predictions it took to alarm; the change begins anywhere in a window."""
    monitor.logits(images[random.integers(0, len(images), int(random.integers(512, 1024)))])
    start = monitor.predictions
    while monitor.predictions - start < 4 * SOON:
        monitor.logits(change(images[random.integers(0, len(images), 50)]))
        if monitor.alarm_count:
            break
    return monitor.predictions - start


if __name__ == "__main__":
    sys.exit(main())
