"""Deep Compression with retraining: iterative pruning, shared weights, both trained, then Huffman or ANS.

Han, Mao and Dally 2016 reach 40× (LeNet-300-100) and 39× (LeNet-5) on MNIST. Here on the full Fashion-MNIST,
with the published steps as steps of a recipe: prune while training, share, train the codebooks. Training is by
distillation from the uncompressed model.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from tests.bench.training import Bench, Run, keep, tell
from workbench.data.load import load_dataset
from workbench.recipe import Recipe

#: Model → times smaller that must be reached, at so many points lost.
WANTED, POINTS = {"lenet300": 45.0, "lenet5": 39.0}, 0.3
#: What trains them, how far they are pruned, and how many entries a codebook has.
TRAIN: dict[str, dict[str, Any]] = {
    "lenet300": {"epochs": 16, "batch": 256, "learning_rate": 0.1, "weight_decay": 5e-4, "augment": "flip"},
    "lenet5": {"epochs": 12, "learning_rate": 0.02, "weight_decay": 5e-4},
}
RATIOS = {"lenet300": 0.92, "lenet5": 0.96}
ENTRIES = {"lenet300": 10, "lenet5": 10}


def recipe(name: str) -> Recipe:
    """Return the steps for one model."""
    settings = TRAIN[name]
    prune = {"ratio": RATIOS[name], "end": 0.5, "every": 16, "teacher": "kl", **settings}
    tune = {**settings, "epochs": 4, "learning_rate": float(settings["learning_rate"]) / 10}
    shared = {"entries": ENTRIES[name], "start": "density"}
    return Recipe.parse([{"prune_gradually": prune}, {"share": shared}, {"distill": tune}])


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
            runs.append(bench.run("prune, share, retrain", recipe(name), seed))
            tell(runs[-1])
    keep("training_deep_compression", runs, wanted=WANTED, points=POINTS)
    missed = [run for run in runs if run.ratio < WANTED[run.model] or run.lost > POINTS]
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
