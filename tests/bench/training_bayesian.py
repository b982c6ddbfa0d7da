"""Variational dropout against gradual magnitude pruning, LeNet-5: size and accuracy at equal training.

Each strength of the divergence gives one size; pruning is given the same share of weights and as many epochs.
Both are then stored with a codebook of 16 entries. Ahead at 60 times smaller, or said plainly that it isn't.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from tests.bench.record import Figure, keep
from tests.bench.training import Bench, Run, tell
from workbench.compression import compress
from workbench.data.load import load_dataset
from workbench.recipe import Recipe

MODEL, RATIO = "lenet5", 60.0
STRENGTHS = (1.0, 4.0)
SHARE = {"share": {"entries": 16, "start": "density"}}


def main() -> int:
    """Print and keep both curves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--data", default="fashion_mnist")
    options = parser.parse_args()
    data = load_dataset(options.data)
    bench = Bench(MODEL, data)
    runs: list[Run] = []
    for seed in range(options.seeds):
        for strength in STRENGTHS:
            step: dict[str, Any] = {"strength": strength, "epochs": options.epochs}
            runs.append(
                bench.run(
                    f"variational, strength {strength:g}", Recipe.parse([{"sparsify_bayesian": step}, SHARE]), seed
                )
            )
            tell(runs[-1])
            ratio = _sparsity(bench, Recipe.parse(runs[-1].recipe))
            step = {"ratio": ratio, "epochs": options.epochs, "learning_rate": 0.02}
            label = f"magnitude, {100 * ratio:.1f} %"
            runs.append(bench.run(label, Recipe.parse([{"prune_gradually": step}, SHARE]), seed))
            tell(runs[-1])
            pairs = list(zip(runs[::2], runs[1::2], strict=True))
            keep("training_bayesian", [_figure(pairs)], data=options.data, seeds=range(seed + 1),
                 seconds=sum(run.seconds for run in runs), runs=runs)  # fmt: skip
    return 0


def _figure(pairs: list[tuple[Run, Run]]) -> Figure:
    """Return both curves, and how often the first is ahead where it is small enough: reached once that is told."""
    small = [(one, other) for one, other in pairs if one.ratio >= RATIO]
    ahead = [pair for pair in small if pair[0].test > pair[1].test]
    curve = "; ".join(
        f"{one.ratio:.0f}× {one.test:.2f} % (magnitude {other.ratio:.0f}× {other.test:.2f} %)" for one, other in pairs
    )
    return Figure(
        f"Variational dropout against gradual magnitude pruning, {MODEL}", f"ahead at ≥ {RATIO:g}×, or said not to be",
        f"{'ahead' if 2 * len(ahead) > len(small) else 'not ahead'}: more accurate in {len(ahead)} of {len(small)} at "
        f"≥ {RATIO:g}×. Size and accuracy: {curve}",
        bool(small),
    )  # fmt: skip


def _sparsity(bench: Bench, recipe: Recipe) -> float:
    layers = compress(bench.model, recipe, bench.data).layers
    total = sum(layer.params for layer in layers)
    return round(sum(layer.params * layer.sparsity for layer in layers) / total, 4)


if __name__ == "__main__":
    sys.exit(main())
