"""Lottery tickets against the same masks from other first weights: LeNet-300-100 at 90 %.

The difference is paired by seed; its interval is Student's at 95 %. Beside it stands the zoo's dense network, which
was trained longer and on more.
"""

from __future__ import annotations

import argparse
import sys

from tests.bench.record import Figure, keep
from tests.bench.training import Bench, Run, interval, spread, tell
from workbench.data.load import load_dataset

MODEL, RATIO = "lenet300", 0.9
SETTINGS = "ratio: {ratio}, rounds: {rounds}, epochs: {epochs}, learning_rate: 0.05, augment: flip, last: {last}"


def main() -> int:
    """Print and keep the figures; there is nothing to miss: what comes out is the answer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--data", default="fashion_mnist")
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
    rewound, random = ([run.test for run in found] for found in runs.values())
    figure = Figure(
        f"Lottery ticket against random re-initialization, {MODEL} at {RATIO:.0%}", "",
        f"{middle:+.2f} points, 95 % interval {low:+.2f} to {high:+.2f}: {spread(rewound)} % rewound, "
        f"{spread(random)} % from other first weights, {runs['rewound'][0].dense:.2f} % dense (the zoo's)",
    )  # fmt: skip
    everything = [*runs["rewound"], *runs["random"]]
    keep("training_tickets", [figure], data=options.data, seeds=range(options.seeds),
         seconds=sum(run.seconds for run in everything), runs=everything)  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
