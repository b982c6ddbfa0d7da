"""A whole sensitivity sweep of ResNet-20 to ± 1 point, layers in order, against the loop people write.

The loop copies the model for each setting, prunes one layer and runs every image in eager mode. It takes the
same time for every setting, so it is timed on some of them, before and after the sweep, and the time of all is
said to be that many times as long. The sweep stops each cell once its 95 % interval, which holds at every look,
is no wider than ± 1 point, and takes the cells that decide the order of the layers further until that is sure. Then it
goes on to every image: the accuracies of the settings that the loop measured must be the same, and the order of the
layers by what they lose must be nearly that of the sweep to ± 1 point. What the order was before is told beside it.

Times are of the clock and of the processor. The loop and the sweep keep two cores busy alike, and on a machine that
works on other things too the processor's are the ones to compare.
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
from tests.bench.record import Figure, keep
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
    start = time.perf_counter()
    with Session(MODEL, data, history=":memory:") as session:
        session.measure()
        session.give_way(lambda: False)
        before = _loop(session.model.module, data)
        loose, _, early = _sweep(session, TOLERANCE, order=None)
        near, seconds, used = _sweep(session, TOLERANCE)
        by_hand = before + _loop(session.model.module, data)
        loop, busy = (float(np.median([each[place] for each in by_hand])) * near.n.size for place in (3, 4))
        print(
            f"{MODEL}, prune, {len(near.layers)} layers × {len(near.levels)} ratios = {near.n.size} settings, "
            f"{near.total:,} {near.baseline.split} images\n"
            f"loop (deepcopy, prune, eager NCHW in batches of 64): {loop:,.0f} s, {near.n.size} times the median of "
            f"{2 * TIMED} settings timed, {TIMED} before the sweep and {TIMED} after\n"
            f"sweep to ± {100 * TOLERANCE:g} point, whole: {seconds:.0f} s, {loop / seconds:.1f}× faster, must be "
            f"≥ {WANTED:g}×, on {near.n.mean():,.0f} images a cell; by the processor's time {busy / used:.1f}×, and "
            f"{busy / early:.1f}× without the order, on {loose.n.mean():,.0f} images a cell",
            flush=True,
        )
        exact, rest, _ = _sweep(session, None, near)
    _check(exact, by_hand)
    off = 100 * np.abs(near.value - exact.value)
    order, before_order = (_order(each, exact) for each in (near, loose))
    assert near.order is not None
    print(
        f"going on to every image: {rest:.0f} s more, together {loop / (seconds + rest):.2f}× faster than the loop\n"
        f"± {100 * TOLERANCE:g} point against every image: off by {off.mean():.2f} points in the mean, {off.max():.2f} "
        f"at most, {np.mean((near.low <= exact.value) & (exact.value <= near.high)):.1%} of the intervals hold\n"
        f"order of the layers by the points lost in the mean: Spearman {order:.3f}, must be ≥ {ORDER:g} (promised: "
        f"{near.order:.3f} in nine of ten); by the intervals alone {before_order:.3f}"
    )
    figures = _figures(loop / seconds, busy / used, order, before_order, near, exact)
    lost = {"layers": list(near.layers), "near": _lost(near), "exact": _lost(exact), "images": near.n.tolist()}
    keep("sensitivity", figures, data=data.name, seeds=[0], seconds=time.perf_counter() - start, runs=[lost])
    return 0 if all(figure.reached for figure in figures) else 1


def _figures(
    clock: float, processor: float, order: float, before: float, near: Sensitivity, exact: Sensitivity
) -> list[Figure]:
    """Return what is kept in the record: how many times faster by the clock and by the processor, and the order."""
    size = f"{MODEL}, {len(near.layers)} layers × {len(near.levels)} ratios to ± 1 point"
    held = np.mean((near.low <= exact.value) & (exact.value <= near.high))
    return [
        Figure(
            f"Sweep of {size} against a loop of full evaluations", f"≥ {WANTED:g}× faster",
            f"{clock:.1f}× by the clock, {processor:.1f}× by the processor's time, "
            f"on {near.n.mean():,.0f} images a cell of {near.total:,}", max(clock, processor) >= WANTED,
        ),
        Figure(
            f"Order of the layers, sweep of {size} against every image", f"Spearman ≥ {ORDER:g}",
            f"{order:.3f} ({before:.3f} with the intervals alone)", order >= ORDER,
        ),
        Figure(
            f"Accuracies on every image inside the intervals of the sweep of {size}", "≥ 95 %",
            f"{held:.1%} of {near.n.size}", bool(held >= 0.95),
        ),
    ]  # fmt: skip


def _lost(found: Sensitivity) -> list[float]:
    """Return the points each layer loses in the mean over the levels."""
    return [round(100 * float(lost), 4) for lost in found.lost.mean(1)]


def _order(near: Sensitivity, exact: Sensitivity) -> float:
    return float(spearmanr(near.lost.mean(1), exact.lost.mean(1)).statistic)


def _sweep(
    session: Session, tolerance: float | None, before: Sensitivity | None = None, order: float | None = 0.95
) -> tuple[Sensitivity, float, float]:
    """Return what a sweep found, its seconds, and those of the processor."""
    start, used = time.perf_counter(), time.process_time()
    job = measure_sensitivity(session, "prune", tolerance=tolerance, relative=0, start=before, order=order)
    first: list[float] = []
    job.subscribe(lambda progress: first.append(progress.seconds) if job.latest and job.latest.known else None)
    found = job.result()
    seconds = time.perf_counter() - start
    print(f"whole map after {first[0]:.1f} s, {seconds:.0f} s in all", flush=True)
    return found, seconds, time.process_time() - used


def _loop(module: nn.Module, data: Dataset) -> list[tuple[str, float, float, float, float]]:
    """Return layer, ratio, accuracy, seconds and the processor's seconds of some settings, measured by hand."""
    layers = [name for name, part in module.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    found = []
    for place in range(TIMED):
        name, ratio = layers[place * len(layers) // TIMED], (2 * place + 2) / 10
        start, used = time.perf_counter(), time.process_time()
        pruned = copy.deepcopy(module).eval()
        weight = pruned.get_submodule(name).weight
        assert isinstance(weight, nn.Parameter)
        gone = round(ratio * weight.numel())
        threshold = weight.detach().abs().flatten().kthvalue(gone).values
        weight.data[weight.detach().abs() <= threshold] = 0
        accuracy = _evaluate(pruned, data["test"], data)
        found.append((name, ratio, accuracy, time.perf_counter() - start, time.process_time() - used))
    return found


def _check(exact: Sensitivity, by_hand: list[tuple[str, float, float, float, float]]) -> None:
    for layer, ratio, accuracy, *_ in by_hand:
        ours = exact.estimate(layer, ratio)
        assert ours is not None
        assert ours.kind == "exact"
        assert abs(ours.value - accuracy) <= 2e-4, (layer, ratio, ours.value, accuracy)


if __name__ == "__main__":
    sys.exit(main())
