"""Deep Compression with retraining: iterative pruning, shared weights, both trained, then Huffman or ANS.

Han, Mao and Dally 2016 reach 40× (LeNet-300-100) and 39× (LeNet-5) on MNIST. Here on the full Fashion-MNIST,
with the published steps as steps of a recipe: prune while training, share, train the codebooks. Training is by
distillation, of LeNet-5 from the uncompressed model, of LeNet-300-100 from ResNet-20. An entry's gradient is the sum
over the thousands of weights that share it, so codebooks are trained by AdamW, whose steps do not grow with it: SGD
at any step that moves the biases too throws them far off.

LeNet-300-100 is 96 % accurate on what it was trained on and 90.70 % on the validation images: its answers to the
former say little of the latter. Taught by them for 20 epochs, half of fc1's outputs gone and 78 to 80 % of the
remaining weights, it came to 90.26 to 90.46 % before sharing, with AdamW, SGD, mixed or shifted images alike, and to
89.94 to 90.46 % at 45.2 to 51.2 times after it (seed 2). ResNet-20's answers brought 90.94 % in 60 epochs of SGD with
weight decay (seed 3: 90.60 %), 90.28 % in 60 of AdamW without. Sharing 7 to 14 entries, taught at a temperature of 4,
then came to 90.28 to 90.54 % at 45.2 to 53.2 times (seeds 2 and 3); 16 entries to 90.76 %, at 38 times. A decay of 0.5
to 1 draws weights to the small entries, which then serve more of them and are coded better: 0.5 takes a tenth off the
file, so that 12 entries have room where 7 had. At temperature 2, 14 of them came to 90.64 and 90.16 % (seeds 2 and 3;
45.7 and 45.4 times); at 1, 12 came to 90.86 and 90.28 % (46.2 and 46.4 times). That is no more accurate than at 4 as
far as 5,000 images tell, but of less cross-entropy, 0.265 and 0.267 instead of 0.276 and 0.277 (dense: 0.315), and
nearer to the dense model's answers, and was taken. Before, with 7 fixed entries, the uncompressed model as teacher and
no filters gone, seeds 2 to 4 lost 0.46 to 0.56 points on the validation split and 0.29 to 0.45 on the test split.

LeNet-5's entries begin evenly spaced, as in the paper: those at the ends then serve few weights and the others are
coded better. Entries are worth most in its small layers: with 16 of them, 8 in fc1, its answers on the validation
images are twice as far from the dense model's as before sharing (a divergence of 0.092 instead of 0.043), and 0.068
with 48 in conv1, 24 in fc2 and 7 in fc1, in fewer bytes.

Half of LeNet-5's file says where the weights of fc1 are, and a position costs the less the fewer there are to choose
from: half of its 500 outputs go first, as whole filters, and a tenth more weights fit into the rest. The first epoch
of training wins back the 2.6 points of validation accuracy that this costs. ResNet-20 as the teacher in place of the
uncompressed model came to 92.44 and 92.14 % of validation after as many epochs (dense: 93.06 %).

Where weights may take another entry while the codebooks are trained, LeNet-5's answers come nearer to the dense
model's than they were before sharing: a divergence at temperature 1 of 0.0071 after three epochs, of 0.0090 with
fixed ones, of 0.0082 before (seed 6, pruned to 75.5 %, 7 entries in fc1). With 5 entries it is 0.0077, in 8 % fewer
bytes. So a tenth more weights have room: seed 4, pruned to 73 %, came to 0.0072 with 5 entries, in five epochs, and to
0.0071 with 6, where 7 fixed ones had 0.0082 in 7 and 5 % more bytes; 6 are too many for 39 times with seed 9. With 6,
shifted images came to 0.0077 and temperature 2 to 0.0075. The last epoch is kept: the most accurate one was often the
first, at 0.0087 to 0.0097, and that of the least cross-entropy with the labels an early one too. Pruning for
20 epochs came to 0.0066 to 0.0072 before sharing (seeds 9 to 11), for 10 epochs to 0.0071 (seed 4).

Seeds of LeNet-300-100 begin at 5, those of LeNet-5 at 9: what the earlier ones came to was seen before these settings
were. Those of LeNet-5 that were judged lost 0.30 to 0.43 points on the test split, with fixed entries.

The seconds recorded of LeNet-300-100 are those of a busy machine: a seed takes a little over two minutes of a core.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from tests.bench.record import Figure, keep
from tests.bench.training import Bench, Run, spread, tell
from workbench.data.load import load_dataset
from workbench.recipe import Recipe

DATA = "fashion_mnist:full"
#: Model → times smaller that must be reached, at so many points lost.
WANTED, POINTS = {"lenet300": 45.0, "lenet5": 39.0}, 0.3
#: What goes first, as a whole.
FIRST_OFF: dict[str, Any] = {"granularity": "filter", "ratio": 0.5, "layers": ["fc1"]}
#: What prunes them while training.
PRUNE: dict[str, dict[str, Any]] = {
    "lenet300": {
        "ratio": 0.78,
        "epochs": 60,
        "batch": 256,
        "learning_rate": 0.1,
        "augment": "flip",
        "taught_by": "resnet20",
        "answers": "cached",
    },
    "lenet5": {"ratio": 0.73, "epochs": 20, "batch": 128, "learning_rate": 0.05, "augment": "crop_flip"},
}
#: Entries of each codebook, and where they begin.
SHARE: dict[str, dict[str, Any]] = {
    "lenet300": {"start": "density", "entries": 12, "overrides": {"fc3": {"entries": 16}}},
    "lenet5": {
        "start": "linear",
        "entries": 16,
        "overrides": {"conv1": {"entries": 48}, "fc1": {"entries": 5}, "fc2": {"entries": 24}},
    },
}
#: The first of the seeds that are judged.
FIRST = {"lenet300": 5, "lenet5": 9}
#: What trains the codebooks, the biases, and which entry a weight takes.
TUNE: dict[str, dict[str, Any]] = {
    "lenet300": {"learning_rate": 3e-4, "weight_decay": 0.8, "epochs": 8, "teacher": "resnet20", "temperature": 1.0},
    "lenet5": {"learning_rate": 5e-4, "epochs": 3},
}


def recipe(name: str) -> Recipe:
    """Return the steps for one model."""
    prune = {"end": 0.5, "every": 16, "teacher": "kl", "weight_decay": 5e-4, "precision": "bf16", **PRUNE[name]}
    tune = {
        "batch": 256, "optimizer": "adamw", "augment": "flip", "precision": "bf16", "answers": "cached",
        "reassign": True, "keep": "last", **TUNE[name],
    }  # fmt: skip
    return Recipe.parse([{"prune": FIRST_OFF}, {"prune_gradually": prune}, {"share": SHARE[name]}, {"distill": tune}])


def main() -> int:
    """Print and keep the figures; return 1 where one misses what it must reach."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=list(WANTED))
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--first", type=int, help="the first of them; the model says unless given")
    options = parser.parse_args()
    data = load_dataset(DATA)
    figures = []
    for name in options.models:
        bench = Bench(name, data)
        runs = []
        first = FIRST[name] if options.first is None else options.first
        for seed in range(first, first + options.seeds):
            runs.append(bench.run("prune, share, retrain", recipe(name), seed))
            tell(runs[-1])
            figure = _figure(name, runs)
            keep(f"training_deep_compression_{name}", [figure], data=DATA, seeds=[run.seed for run in runs],
                 seconds=sum(run.seconds for run in runs), runs=runs)  # fmt: skip
        figures.append(figure)
    return 0 if all(figure.reached for figure in figures) else 1


def _figure(name: str, runs: list[Run]) -> Figure:
    ratios, lost = [run.ratio for run in runs], [run.lost for run in runs]
    reached = min(ratios) >= WANTED[name] and max(lost) <= POINTS
    measured = f"{spread(ratios, 1)}×, {spread(lost)} points lost of {runs[0].dense:.2f} %"
    return Figure(
        f"Deep Compression with retraining, {name}", f"≥ {WANTED[name]:g}× at ≤ {POINTS} points lost", measured, reached
    )


if __name__ == "__main__":
    sys.exit(main())
