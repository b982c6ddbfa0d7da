"""A whole sensitivity sweep of ResNet-20 to ± 1 point against the loop people write, on the same settings.

The loop copies the model for each setting, prunes one layer and runs every image in eager mode. It takes the
same time for every setting, so it is timed on some of them, before and after the sweep, and the time of all is
said to be that many times as long. The sweep stops each cell once its 95 % interval, which holds at every look,
is no wider than ± 1 point. Then it goes on to every image: the accuracies of the settings that the loop measured
must be the same, and the order of the layers by what they lose must be nearly that of the sweep to ± 1 point.
"""

from __future__ import annotations

import copy
import sys
import time

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import nn

from tests.bench.evaluation import _evaluate
from workbench.analyze.sensitivity import Sensitivity, measure_sensitivity
from workbench.data.dataset import Dataset
from workbench.data.load import load_dataset
from workbench.session import Session

MODEL, TIMED, TOLERANCE = "resnet20", 3, 0.01
#: Times faster than the loop, and Spearman's correlation of the layers' order with the exact one, at least.
WANTED, ORDER = 8.0, 0.95


def main() -> int:
    """Print the times and their ratios; return 1 where the sweep misses what it must reach."""
    torch.set_num_threads(2)
    data = load_dataset("fashion_mnist")
    with Session(MODEL, data, history=":memory:") as session:
        session.measure()
        session.give_way(lambda: False)
        before = _loop(session.model.module, data)
        near, seconds = _sweep(session, TOLERANCE)
        by_hand = before + _loop(session.model.module, data)
        loop = float(np.median([spent for *_, spent in by_hand])) * near.n.size
        print(
            f"{MODEL}, prune, {len(near.layers)} layers × {len(near.levels)} ratios = {near.n.size} settings, "
            f"{near.total:,} {near.baseline.split} images\n"
            f"loop (deepcopy, prune, eager NCHW in batches of 64): {loop:,.0f} s, {near.n.size} times the median of "
            f"{2 * TIMED} settings timed, {TIMED} before the sweep and {TIMED} after\n"
            f"sweep to ± {100 * TOLERANCE:g} point, whole: {seconds:.0f} s, {loop / seconds:.1f}× faster, must be "
            f"≥ {WANTED:g}×, on {near.n.mean():,.0f} images a cell",
            flush=True,
        )
        exact, rest = _sweep(session, None, near)
    _check(exact, by_hand)
    off = 100 * np.abs(near.value - exact.value)
    order = float(spearmanr(near.lost.mean(1), exact.lost.mean(1)).statistic)
    print(
        f"going on to every image: {rest:.0f} s more, together {loop / (seconds + rest):.2f}× faster than the loop\n"
        f"± {100 * TOLERANCE:g} point against every image: off by {off.mean():.2f} points in the mean, {off.max():.2f} "
        f"at most, {np.mean((near.low <= exact.value) & (exact.value <= near.high)):.1%} of the intervals hold\n"
        f"order of the layers by the points lost in the mean: Spearman {order:.3f}, must be ≥ {ORDER:g}"
    )
    return 0 if loop / seconds >= WANTED and order >= ORDER else 1


def _sweep(session: Session, tolerance: float | None, before: Sensitivity | None = None) -> tuple[Sensitivity, float]:
    start = time.perf_counter()
    job = measure_sensitivity(session, "prune", tolerance=tolerance, relative=0, start=before)
    first: list[float] = []
    job.subscribe(lambda progress: first.append(progress.seconds) if job.latest and job.latest.known else None)
    found = job.result()
    seconds = time.perf_counter() - start
    print(f"whole map after {first[0]:.1f} s, {seconds:.0f} s in all", flush=True)
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
