"""Deep Compression with retraining: iterative pruning, shared weights, both trained, then Huffman or ANS.

Han, Mao and Dally 2016 reach 40× (LeNet-300-100) and 39× (LeNet-5) on MNIST. Here on the full Fashion-MNIST,
with the published steps as steps of a recipe: prune, train, prune harder, train, …, share, train the codebooks.
Training is by distillation from the uncompressed model.
"""

from __future__ import annotations

import argparse
import sys

from tests.bench.training import Bench, Run, keep, tell
from workbench.data.load import load_dataset
from workbench.recipe import Recipe

#: Model → times smaller that must be reached, at so many points lost.
WANTED, POINTS = {"lenet300": 45.0, "lenet5": 39.0}, 0.3
TRAIN = {
    "lenet300": {"epochs": 6, "learning_rate": 0.05, "augment": "flip"},
    "lenet5": {"epochs": 4, "learning_rate": 0.02, "augment": "crop_flip"},
}
#: Shares of weights pruned, one after another.
RATIOS = {"lenet300": (0.75, 0.86, 0.92), "lenet5": (0.85, 0.93, 0.96, 0.97)}
ENTRIES = {"lenet300": 16, "lenet5": 12}


def recipe(name: str) -> Recipe:
    """Return the steps for one model."""
    settings = TRAIN[name]
    steps: list[dict[str, dict[str, object]]] = []
    *before, last = RATIOS[name]
    for ratio in before:
        steps += [{"prune": {"ratio": ratio}}, {"distill": settings}]
    steps += [{"prune": {"ratio": last}}, {"distill": {**settings, "epochs": 3 * int(str(settings["epochs"]))}}]
    shared = {"entries": ENTRIES[name], "start": "density"}
    return Recipe.parse([*steps, {"share": shared}, {"distill": {**settings, "learning_rate": 0.003}}])


def main() -> int:
    """Print and keep the figures; return 1 where one misses what it must reach."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=list(WANTED))
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    data = load_dataset("fashion_mnist:full")
    runs: list[Run] = []
    for name in options.models:
        bench = Bench(name, data)
        for seed in range(options.seeds):
            runs.append(bench.run("iterative prune, share, retrain", recipe(name), seed))
            tell(runs[-1])
    keep("training_deep_compression", runs, wanted=WANTED, points=POINTS)
    missed = [run for run in runs if run.ratio < WANTED[run.model] or run.lost > POINTS]
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
