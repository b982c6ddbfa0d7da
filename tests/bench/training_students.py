"""A student of half the channels, distilled in each way, against the same student trained plainly as long.

LeNet-5 cut to half its filters; the difference to plain training is paired by seed, with Student's 95 % interval.
By AdamW, since the losses' gradients differ in size by orders: at one step size of SGD some learn nothing, others
are no number any more after a few steps.
"""

from __future__ import annotations

import argparse
import sys

from tests.bench.record import Figure, keep
from tests.bench.training import Bench, Run, interval, spread, tell
from workbench.data.load import load_dataset
from workbench.recipe import Recipe

MODEL = "lenet5"
CUT = {"prune": {"granularity": "filter", "ratio": 0.5, "multiple": 1, "scope": "layer"}}
#: Loss → its weight beside the labels.
LOSSES = {"kl": 0.9, "mse": 0.5, "hint": 0.5, "attention": 0.5, "relation": 0.05, "similarity": 0.2}


def main() -> int:
    """Print and keep the figures; what does not help is told as well as what does."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--data", default="fashion_mnist")
    options = parser.parse_args()
    bench = Bench(MODEL, load_dataset(options.data))
    settings = {"epochs": options.epochs, "optimizer": "adamw", "learning_rate": 0.002}
    ways = {"plain": {"finetune": settings}}
    ways |= {loss: {"distill": {**settings, "loss": loss, "weight": weight}} for loss, weight in LOSSES.items()}
    runs: dict[str, list[Run]] = {way: [] for way in ways}
    for seed in range(options.seeds):
        for way, step in ways.items():
            runs[way].append(bench.run(f"half width, {way}", Recipe.parse([CUT, step]), seed))
            tell(runs[way][-1])
    plain = [run.test for run in runs["plain"]]
    figures = [_figure(way, [run.test for run in runs[way]], plain) for way in LOSSES]
    everything = [run for found in runs.values() for run in found]
    keep("training_students", figures, data=options.data, seeds=range(options.seeds),
         seconds=sum(run.seconds for run in everything), runs=everything)  # fmt: skip
    return 0


def _figure(way: str, taught: list[float], plain: list[float]) -> Figure:
    middle, low, high = interval([one - other for one, other in zip(taught, plain, strict=True)])
    verdict = "helps" if low > 0 else "hurts" if high < 0 else "no difference shown"
    return Figure(
        f"Half-width {MODEL} distilled by {way}, against plain training", "",
        f"{middle:+.2f} points, 95 % interval {low:+.2f} to {high:+.2f}: {verdict} ({spread(plain)} % plain)",
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
