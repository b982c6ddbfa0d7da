"""Lottery tickets against the same masks from other first weights: LeNet-300-100 at 90 %.

The difference is paired by seed; its interval is Student's at 95 %. The dense network trained alike stands beside.
"""

from __future__ import annotations

import argparse
import math
import sys
from statistics import mean, stdev

from tests.bench.training import Bench, Run, keep, tell
from workbench.data.load import load_dataset

MODEL, RATIO = "lenet300", 0.9
SETTINGS = "ratio: {ratio}, rounds: {rounds}, epochs: {epochs}, learning_rate: 0.05, augment: flip, last: {last}"
#: Student's 97.5 % quantile by degrees of freedom.
QUANTILES = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


def interval(differences: list[float]) -> tuple[float, float, float]:
    """Return the mean of paired differences and the ends of its 95 % interval."""
    middle = mean(differences)
    half = QUANTILES[len(differences) - 1] * stdev(differences) / math.sqrt(len(differences))
    return middle, middle - half, middle + half


def main() -> int:
    """Print and keep the figures; there is nothing to miss: what comes out is the answer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--data", default="fashion_mnist:full")
    options = parser.parse_args()
    bench = Bench(MODEL, load_dataset(options.data))
    runs: dict[str, list[Run]] = {"rewound": [], "random": []}
    for seed in range(options.seeds):
        for last, found in runs.items():
            settings = SETTINGS.format(ratio=RATIO, rounds=options.rounds, epochs=options.epochs, last=last)
            found.append(bench.run(f"ticket, {last}", f"- find_ticket: {{{settings}}}", seed))
            tell(found[-1])
    pairs = [one.test - other.test for one, other in zip(runs["rewound"], runs["random"], strict=True)]
    middle, low, high = interval(pairs)
    print(f"ticket minus control: {middle:+.2f} points, 95 % interval {low:+.2f} to {high:+.2f}, {len(pairs)} seeds")
    keep("training_tickets", [*runs["rewound"], *runs["random"]], difference=[middle, low, high], data=options.data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
