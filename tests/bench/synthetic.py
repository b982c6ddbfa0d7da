"""What calibration and distillation give on images that nobody took, against the real ones.

Every source makes as many images as are taken of the real ones, and each training takes as many steps. Real images
in the same number, and a hundred of them alone, stand beside. Seeds are those of making and of training. The record
is written after each source of each seed, those that take longest last, and says what a run that was broken off has
not come to; ``--go-on`` measures the rest. ``--sources`` runs some of them and keeps no record; what was made and
trained is kept, so that a later run of all of them only measures.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from statistics import mean

import numpy as np
import torch

from tests.bench.record import Figure, keep
from tests.bench.table import read_records
from tests.bench.training import Bench, Run, spread, tell, with_seed
from workbench.data.cut import calibration_of, stratified
from workbench.data.dataset import Dataset
from workbench.data.load import load_dataset
from workbench.errors import WorkbenchError
from workbench.models.load import load_model
from workbench.models.model import Model
from workbench.recipe import Recipe
from workbench.train.synthetic import SOURCES, Synthesis, check_source, synthesize

#: Real images that may be looked at where they are few.
FEW = 100


@dataclass(frozen=True)
class Plan:
    """How one model is compared: images of each source, and recipes by what they are called.

    ``validation`` is how many images of that split are run after each epoch; all of them unless said, for a recipe
    that keeps its best epoch.
    """

    images: int
    before: str
    calibrated: dict[str, str]
    trained: dict[str, str]
    validation: int | None = None


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
        200,
        "- quantize: {bits: 3}",
        {
            "3 bit, bias corrected": "- quantize: {bits: 3}\n- correct_bias: {}",
            "3 bit, AdaRound": "- quantize: {bits: 3, rounding: adaround, images: 200, iterations: 100}",
            "4-bit activations": "- quantize: {bits: 8, activations: {bits: 4, observer: mse}}",
            "70 % pruned, recalibrated": "- prune: {ratio: 0.7}\n- recalibrate: {}",
        },
        {
            "80 % pruned, distilled": "- prune: {ratio: 0.8}\n"
            "- distill: {epochs: 10, batch: 32, weight: 1, batchnorm: freeze, keep: last}"
        },
        1_000,
    ),
}


def main() -> int:
    """Print and keep the figures; there is nothing to miss: what comes out is the answer."""
    options = _options()
    model, plan = load_model(options.model), PLANS[options.model]
    data, images = _judging(load_dataset(options.data), plan), options.images or plan.images
    recipes = plan.calibrated | ({} if options.calibrated else plan.trained)
    ways, judge = _ways(model, data, images), Bench(model, data)
    wanted = [(seed, one) for seed in range(options.seeds) for one in ways if one in (options.sources or ways)]
    wanted.sort(key=lambda pair: SOURCES[pair[1]].steps if pair[1] in SOURCES else 0)  # the longest ones last
    known = _known(model.name, recipes, options.data, images) if options.go_on else {}
    left = [pair for pair in wanted if pair not in known]
    runs = [run for pair in wanted for run in known.get(pair, ())]
    without = None if options.sources else judge.run("without any image", plan.before)
    for at, (seed, source) in enumerate(left, 1):
        bench = judge.learning_from(ways[source](seed))
        for what, recipe in recipes.items():
            runs.append(bench.run(f"{what}, {source}", recipe, seed))
            tell(runs[-1])
        if without is not None:
            keep(f"synthetic_{model.name}", figures(without, runs, left[at:]), data=options.data, images=images,
                 seeds=sorted({run.seed for run in runs}), seconds=sum(run.seconds for run in runs),
                 runs=[without, *runs])  # fmt: skip
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=PLANS, default="lenet5")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--data", default="fashion_mnist")
    parser.add_argument("--sources", nargs="*", help="only these, and keep no record")
    parser.add_argument("--images", type=int, help="of each source; the model's plan says unless given")
    parser.add_argument("--calibrated", action="store_true", help="train nothing")
    parser.add_argument("--go-on", action="store_true", help="measure what the record has not, where there is one")
    return parser.parse_args()


def figures(without: Run, runs: list[Run], left: list[tuple[int, str]]) -> list[Figure]:
    """Return what each recipe loses with each source; ``left`` are seeds and sources that were not come to."""
    name = without.model
    told = [Figure(f"Nothing to learn from, {name}: `{PLANS[name].before}`", "", f"{without.lost:.2f} points lost")]
    for what in PLANS[name].calibrated | PLANS[name].trained:
        lost: dict[str, list[float]] = {}
        for run in runs:
            if run.label.startswith(f"{what}, "):
                lost.setdefault(run.label.removeprefix(f"{what}, "), []).append(run.lost)
        if lost:
            told.append(Figure(f"{what}, {name}", "", _compared(lost)))
    seeds = {seed: [source for other, source in left if other == seed] for seed, _ in left}
    if seeds:
        words = "; ".join(f"{', '.join(sources)} (seed {seed})" for seed, sources in seeds.items())
        told.append(Figure(f"Not measured yet, {name}", "", words))
    return told


def _judging(data: Dataset, plan: Plan) -> Dataset:
    """Return ``data`` with as many validation images as the plan wants."""
    held = data["validation"]
    few = held.take(torch.arange(min(len(held), plan.validation or len(held))))
    return replace(data, splits={**data.splits, "validation": few})


def _known(model: str, recipes: dict[str, str], data: str, images: int) -> dict[tuple[int, str], list[Run]]:
    """Return the record's runs of the same recipes, data and number of images, by seed and source; whole ones only."""
    record = read_records().get(f"synthetic_{model}", {})
    if (record.get("data"), record.get("images")) != (data, images):
        return {}
    found: dict[tuple[int, str], list[Run]] = {}
    for run in (Run(**run) for run in record["runs"]):
        for what, recipe in recipes.items():
            same = run.recipe == with_seed(Recipe.parse(recipe), run.seed).to_data()
            if run.label.startswith(f"{what}, ") and same:
                found.setdefault((run.seed, run.label.removeprefix(f"{what}, ")), []).append(run)
    return {pair: runs for pair, runs in found.items() if len(runs) == len(recipes)}


def _ways(model: Model, data: Dataset, images: int) -> dict[str, Callable[[int], Dataset]]:
    """Return, by each source's name, how data with its images to learn from comes of a seed."""
    ways: dict[str, Callable[[int], Dataset]] = {
        "real": lambda seed: _some(data, images, images, seed),
        f"real, {FEW}": lambda seed: _some(data, FEW, images, seed),
    }
    quickest = sorted(SOURCES, key=lambda name: SOURCES[name].steps)
    hows = {f"mixup of {FEW}": f"mixup,images={images},real={FEW}"} | {
        one: f"{one},images={images}" for one in quickest
    }
    for name, how in hows.items():
        try:
            check_source(model, data, Synthesis.parse(how))
        except WorkbenchError as refused:
            print(f"{name}: {refused}", flush=True)
        else:
            ways[name] = partial(_made, model, data, how)
    return ways


def _made(model: Model, data: Dataset, how: str, seed: int) -> Dataset:
    return synthesize(model, data, f"{how},seed={seed}")


def _some(data: Dataset, count: int, images: int, seed: int) -> Dataset:
    """Return ``data`` with ``count`` of its training images, repeated until they are ``images``."""
    train = data["train"]
    chosen, _ = stratified(train.labels.numpy(), [count / len(train)], seed, np.arange(len(train)))
    few = train.take(chosen[torch.arange(images) % len(chosen)])
    return replace(data, splits={**data.splits, "train": few, "calibration": calibration_of(few)})


def _compared(lost: dict[str, list[float]]) -> str:
    """Return the points lost with each source in words, the least first."""
    least = sorted(lost, key=lambda source: mean(lost[source]))
    return "points lost: " + "; ".join(f"{source} {spread(lost[source])}" for source in least)


if __name__ == "__main__":
    sys.exit(main())
