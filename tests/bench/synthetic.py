"""What calibration and distillation give on images that nobody took, against the real ones.

Every source makes as many images as are taken of the real ones, and each training takes as many steps. Real images
in the same number, and a hundred of them alone, stand beside. Seeds are those of making and of training. The record
is written after each source, those that take longest last. ``--sources`` runs some of them and keeps no record; what
was made and trained is kept, so that a later run of all of them only measures.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import mean

import numpy as np
import torch

from tests.bench.record import Figure, keep
from tests.bench.training import Bench, Run, spread, tell
from workbench.data.cut import calibration_of, stratified
from workbench.data.dataset import Dataset
from workbench.data.load import load_dataset
from workbench.errors import WorkbenchError
from workbench.models.load import load_model
from workbench.models.model import Model
from workbench.train.synthetic import SOURCES, synthesize

#: Real images that may be looked at where they are few.
FEW = 100


@dataclass(frozen=True)
class Plan:
    """How one model is compared: images of each source, and recipes by what they are called."""

    images: int
    before: str
    calibrated: dict[str, str]
    trained: dict[str, str]


PLANS = {
    "lenet5": Plan(
        1_000,
        "- quantize: {bits: 2}",
        {
            "2 bit, bias corrected": "- quantize: {bits: 2}\n- correct_bias: {}",
            "2 bit, AdaRound": "- quantize: {bits: 2, rounding: adaround, images: 1000}",
            "4-bit activations": "- quantize: {bits: 8, activations: {bits: 4, observer: mse}}",
        },
        {"95 % pruned, distilled": "- prune: {ratio: 0.95}\n- distill: {epochs: 10, weight: 1}"},
    ),
    "resnet20": Plan(
        500,
        "- quantize: {bits: 3}",
        {
            "3 bit, bias corrected": "- quantize: {bits: 3}\n- correct_bias: {}",
            "3 bit, AdaRound": "- quantize: {bits: 3, rounding: adaround, images: 500, iterations: 100}",
            "4-bit activations": "- quantize: {bits: 8, activations: {bits: 4, observer: mse}}",
            "70 % pruned, recalibrated": "- prune: {ratio: 0.7}\n- recalibrate: {}",
        },
        {"80 % pruned, distilled": "- prune: {ratio: 0.8}\n- distill: {epochs: 20, weight: 1, batchnorm: freeze}"},
    ),
}


def main() -> int:
    """Print and keep the figures; there is nothing to miss: what comes out is the answer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=PLANS, default="lenet5")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--data", default="fashion_mnist")
    parser.add_argument("--sources", nargs="*", help="only these, and keep no record")
    parser.add_argument("--images", type=int, help="of each source; the model's plan says unless given")
    parser.add_argument("--calibrated", action="store_true", help="train nothing")
    options = parser.parse_args()
    model, data, plan = load_model(options.model), load_dataset(options.data), PLANS[options.model]
    images = options.images or plan.images
    recipes = plan.calibrated | ({} if options.calibrated else plan.trained)
    judge = Bench(model, data)
    without = None if options.sources else judge.run("without any image", plan.before)
    found: dict[str, dict[str, list[Run]]] = {}
    for seed in range(options.seeds):
        for source, learned in _learned(model, data, images, seed, options.sources):
            bench = judge.learning_from(learned)
            for what, recipe in recipes.items():
                run = bench.run(f"{what}, {source}", recipe, seed)
                found.setdefault(what, {}).setdefault(source, []).append(run)
                tell(run)
            if without is not None:
                _keep(without, found, options.data, seed)
    return 0


def _keep(without: Run, found: dict[str, dict[str, list[Run]]], data: str, seed: int) -> None:
    """Write the record of what there is up to ``seed``."""
    name = without.model
    figures = [Figure(f"Nothing to learn from, {name}: `{PLANS[name].before}`", "", f"{without.lost:.2f} points lost")]
    figures += [Figure(f"{what}, {name}", "", _compared(sources)) for what, sources in found.items()]
    runs = [run for sources in found.values() for some in sources.values() for run in some]
    keep(f"synthetic_{name}", figures, data=data, seeds=range(seed + 1), seconds=sum(run.seconds for run in runs),
         runs=[without, *runs])  # fmt: skip


def _learned(
    model: Model, data: Dataset, images: int, seed: int, only: list[str] | None
) -> Iterator[tuple[str, Dataset]]:
    """Yield each source's name with the data that has its images to learn from."""
    wanted = {"real": images, f"real, {FEW}": FEW}
    for name, count in wanted.items():
        if not only or name in only:
            yield name, _some(data, count, images, seed)
    ways = {f"mixup of {FEW}": f"mixup,images={images},real={FEW},seed={seed}"}
    quickest = sorted(SOURCES, key=lambda name: SOURCES[name].steps)
    ways |= {name: f"{name},images={images},seed={seed}" for name in quickest}
    for name, how in ways.items():
        if only and name not in only:
            continue
        try:
            made = synthesize(model, data, how)
        except WorkbenchError as refused:
            print(f"{name}: {refused}", flush=True)
            continue
        yield name, made


def _some(data: Dataset, count: int, images: int, seed: int) -> Dataset:
    """Return ``data`` with ``count`` of its training images, repeated until they are ``images``."""
    train = data["train"]
    chosen, _ = stratified(train.labels.numpy(), [count / len(train)], seed, np.arange(len(train)))
    few = train.take(chosen[torch.arange(images) % len(chosen)])
    return replace(data, splits={**data.splits, "train": few, "calibration": calibration_of(few)})


def _compared(sources: dict[str, list[Run]]) -> str:
    """Return the points lost with each source in words, the least first."""
    lost = {source: [run.lost for run in runs] for source, runs in sources.items()}
    return "points lost: " + "; ".join(
        f"{source} {spread(lost[source])}" for source in sorted(lost, key=lambda one: mean(lost[one]))
    )


if __name__ == "__main__":
    sys.exit(main())
