"""What 8 bits cost each model of the zoo: weights per channel, what enters each layer on calibrated grids."""

from __future__ import annotations

import sys

import torch

from workbench.data.load import load_dataset
from workbench.models.zoo import ARCHITECTURES
from workbench.recipe import Recipe
from workbench.session import Session

RECIPE = "- quantize: {bits: 8, scheme: symmetric, activations: {bits: 8}}"
MOST_LOST = 0.5


def main() -> int:
    """Print a row a model, on the whole test split; return 1 where one loses more than it may."""
    torch.set_num_threads(2)
    names = sys.argv[1:] or list(ARCHITECTURES)
    data = load_dataset("fashion_mnist")
    print(f"{RECIPE}, {len(data['test']):,} test images; at most {MOST_LOST} points may be lost")
    print(f"{'model':<14}{'dense %':>9}{'int8 %':>9}{'lost':>7}{'dense kB':>10}{'int8 kB':>9}  runtime")
    missed = []
    for name in names:
        with Session(name, data, history=":memory:") as session:
            before, after = session.measure(Recipe.parse("[]")), session.measure(Recipe.parse(RECIPE))
            assert before.accuracy is not None
            assert after.accuracy is not None
            assert before.size is not None
            assert after.size is not None
            lost = 100 * (before.accuracy.value - after.accuracy.value)
            print(
                f"{name:<14}{100 * before.accuracy.value:>9.2f}{100 * after.accuracy.value:>9.2f}{lost:>7.2f}"
                f"{before.size.dense_fp32_bytes / 1000:>10.0f}{after.size.bytes / 1000:>9.0f}  {session.runtime}",
                flush=True,
            )
        if lost > MOST_LOST:
            missed.append(name)
    print(f"more than {MOST_LOST} points lost: {', '.join(missed)}" if missed else "every model is within bounds")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
