"""A whole sensitivity sweep of ResNet-20 against the loop people write, on the same settings and images.

The loop copies the model for each setting, prunes one layer and runs every image in eager mode. It takes the
same time for every setting, so it is timed on some of them and the time of all is said to be that many times as
long. The accuracies of those settings must be the sweep's. The sweep is timed whole, twice: on every image, and
stopping each cell at ± 0.5 points or a tenth of its loss, which is what the page does unless told otherwise.
"""

from __future__ import annotations

import copy
import sys
import time

import numpy as np
import torch
from torch import nn

from tests.bench.evaluation import _evaluate
from workbench.analyze.sensitivity import Sensitivity, measure_sensitivity
from workbench.data.dataset import Dataset
from workbench.data.load import load_dataset
from workbench.session import Session

MODEL, TIMED, TOLERANCE, WANTED = "resnet20", 4, 0.005, 5.0


def main() -> int:
    """Print the times and their ratios; return 1 where the exact sweep misses what it must reach."""
    torch.set_num_threads(2)
    data = load_dataset("fashion_mnist")
    with Session(MODEL, data, history=":memory:") as session:
        session.measure()
        session.give_way(lambda: False)
        before = _loop(session.model.module, data)
        exact, seconds = _sweep(session, None)
        after = _loop(session.model.module, data)
        near, near_seconds = _sweep(session, TOLERANCE)
    _check(exact, before + after)
    by_hand = float(np.median([spent for *_, spent in before + after])) * exact.n.size
    print(
        f"{MODEL}, prune, {len(exact.layers)} layers × {len(exact.levels)} ratios = {exact.n.size} settings, "
        f"{exact.total:,} {exact.baseline.split} images each"
    )
    print(
        f"loop (deepcopy, prune, eager NCHW in batches of 64): {by_hand:,.0f} s, {exact.n.size} times the median of "
        f"{2 * TIMED} settings timed, {TIMED} before the sweep and {TIMED} after"
    )
    print(f"sweep of every image, whole: {seconds:.0f} s, {by_hand / seconds:.2f}× faster, must be ≥ {WANTED:g}×")
    off = 100 * np.abs(near.value - exact.value)
    print(
        f"sweep to ± {100 * TOLERANCE:g} points or a tenth of the loss, whole: {near_seconds:.0f} s, "
        f"{by_hand / near_seconds:.1f}× faster on {near.n.mean():,.0f} images a cell instead of {exact.total:,} "
        f"(not the same images; off by {off.mean():.2f} points in the mean, "
        f"{np.mean((near.low <= exact.value) & (exact.value <= near.high)):.0%} of the intervals hold)"
    )
    return 0 if by_hand / seconds >= WANTED else 1


def _sweep(session: Session, tolerance: float | None) -> tuple[Sensitivity, float]:
    start = time.perf_counter()
    job = measure_sensitivity(session, "prune", tolerance=tolerance)
    first: list[float] = []
    job.subscribe(lambda progress: first.append(progress.seconds) if job.latest and job.latest.known else None)
    found = job.result()
    seconds = time.perf_counter() - start
    print(f"first whole map after {first[0]:.1f} s, {seconds:.0f} s in all", flush=True)
    return found, seconds


def _loop(module: nn.Module, data: Dataset) -> list[tuple[str, float, float, float]]:
    """Return layer, ratio, accuracy and seconds of some settings, measured by hand."""
    layers = [name for name, part in module.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    found = []
    for place in range(TIMED):
        name, ratio = layers[place * len(layers) // TIMED], (2 * place + 2) / 10
        start = time.perf_counter()
        pruned = copy.deepcopy(module).eval()
        weight = pruned.get_submodule(name).weight
        assert isinstance(weight, nn.Parameter)
        gone = round(ratio * weight.numel())
        threshold = weight.detach().abs().flatten().kthvalue(gone).values
        weight.data[weight.detach().abs() <= threshold] = 0
        accuracy = _evaluate(pruned, data["test"], data)
        found.append((name, ratio, accuracy, time.perf_counter() - start))
    return found


def _check(exact: Sensitivity, by_hand: list[tuple[str, float, float, float]]) -> None:
    for layer, ratio, accuracy, _ in by_hand:
        ours = exact.estimate(layer, ratio)
        assert ours is not None
        assert ours.kind == "exact"
        assert abs(ours.value - accuracy) <= 2e-4, (layer, ratio, ours.value, accuracy)


if __name__ == "__main__":
    sys.exit(main())
