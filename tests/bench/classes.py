"""False alarms and power of the test that names the classes hurt, on the flips of real recipes.

For each model and recipe, the images that flipped are those of the zoo's model on the whole test split. Two nulls
are drawn from them, in both of which no class is hurt: *dealt*, the class labels are permuted, so that lost and won
images fall on classes by chance; and *tossed*, each class keeps its number of flips (hard classes flip more) and
each flip is lost or won at even odds. A drop is planted into a dealt null: three points of one class' images that
had not flipped are lost. A run is an alarm where any class is named, and found where the planted one is.

``python -m tests.bench.classes [--runs 200]``; returns 1 where alarms are above 5 % in all or in any bin of recipes
by more than chance, or fewer than 90 % are found among recipes that keep the headline (at most 1 point lost).
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tests.bench.predictions import available_models, load_predictions
from tests.bench.record import Figure, keep
from workbench.analyze.classes import ALARM, find_hurt
from workbench.recipe import Recipe

MODELS = ("lenet5", "resnet20")
RECIPES = (
    "quantize: {bits: 8}", "quantize: {bits: 5}", "quantize: {bits: 4}", "quantize: {bits: 3}",
    "prune: {ratio: 0.3}", "prune: {ratio: 0.5}", "prune: {ratio: 0.7}", "prune: {ratio: 0.3}\n- quantize: {bits: 3}",
)  # fmt: skip
PLANTED, MOST_ALARMS, LEAST_FOUND, HEADLINE = 0.03, 0.05, 0.90, 0.01

Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Flips:
    """How many images of each class there are, and how many were lost and won."""

    name: str
    sizes: Counts
    lost: Counts
    won: Counts

    @property
    def change(self) -> float:
        """The change of accuracy over all images."""
        return float((self.won.sum() - self.lost.sum()) / self.sizes.sum())


def main() -> int:
    """Print a line a recipe, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--models", nargs="+", default=MODELS)
    options = parser.parse_args()
    runs, start = options.runs, time.perf_counter()
    print(f"{'model and recipe':44} flips  headline  dealt  tossed  found of +3 points, {runs} runs each")
    alarms: list[int] = []
    found: list[int] = []
    lines = []
    for model in available_models(tuple(options.models)):
        for flips in flips_of(model):
            rng = np.random.default_rng(0)
            dealt = sum(alarm(*deal(flips, rng), run) for run in range(runs))
            tossed = sum(alarm(*toss(flips, rng), run) for run in range(runs))
            planted = sum(finds(flips, rng, run) for run in range(runs))
            alarms += [dealt, tossed]
            if flips.change >= -HEADLINE:
                found.append(planted)
            share = (flips.lost + flips.won).sum() / flips.sizes.sum()
            lines.append({
                "recipe": flips.name, "flipped": round(float(share), 4), "change": flips.change, "dealt": dealt,
                "tossed": tossed, "planted_found": planted,
            })  # fmt: skip
            print(
                f"{flips.name:44} {share:5.1%}  {100 * flips.change:+6.2f}  {dealt / runs:6.1%}  {tossed / runs:6.1%}  "
                f"{planted / runs:6.1%}",
                flush=True,
            )
    rate, power = sum(alarms) / (runs * len(alarms)), sum(found) / (runs * max(1, len(found)))
    worst = max(alarms)
    by_chance = int(stats.binom.isf(0.01 / len(alarms), runs, MOST_ALARMS))
    what = f"Classes hurt beyond chance, {len(lines)} recipes of {', '.join(options.models)}, {runs} runs of each"
    figures = [
        Figure(
            f"{what}: false alarms under two nulls", f"≤ {MOST_ALARMS:.0%}",
            f"{rate:.2%}; of any one recipe {worst / runs:.1%} at most", rate <= MOST_ALARMS and worst <= by_chance,
        ),
        Figure(
            f"{what}: a drop of {100 * PLANTED:g} points in one class found where the headline is kept",
            f"≥ {LEAST_FOUND:.0%}", f"{power:.1%}", power >= LEAST_FOUND,
        ),
    ]  # fmt: skip
    seconds = time.perf_counter() - start
    keep("classes", figures, data="fashion_mnist", seeds=[0], seconds=seconds, runs=lines)
    return int(not all(figure.reached for figure in figures))


def flips_of(model: str) -> list[Flips]:
    """Return the flips of each recipe of a zoo model on the test split."""
    kept = load_predictions(model, [Recipe.parse(f"- {text}") for text in RECIPES])
    classes, labels = kept.baseline.shape[1], kept.labels
    before = kept.baseline.argmax(1) == labels
    found = []
    for name, logits in zip(kept.recipes, kept.logits, strict=True):
        after = logits.argmax(1) == labels
        sizes, lost, won = (
            np.bincount(labels[chosen], minlength=classes) for chosen in (slice(None), before & ~after, after & ~before)
        )
        found.append(Flips(f"{model} {name}"[:44], sizes, lost, won))
    return found


def deal(flips: Flips, rng: np.random.Generator) -> tuple[Counts, Counts, Counts]:
    """Return the flips with the class labels permuted."""
    lost = rng.multivariate_hypergeometric(flips.sizes, int(flips.lost.sum()))
    won = rng.multivariate_hypergeometric(flips.sizes - lost, int(flips.won.sum()))
    return flips.sizes, lost, won


def toss(flips: Flips, rng: np.random.Generator) -> tuple[Counts, Counts, Counts]:
    """Return the flips of each class lost or won at even odds."""
    flipped = flips.lost + flips.won
    lost = rng.binomial(flipped, 0.5)
    return flips.sizes, lost, flipped - lost


def alarm(sizes: Counts, lost: Counts, won: Counts, seed: int) -> bool:
    """Return whether any class is named."""
    return bool((find_hurt(sizes, lost, won, seed) <= ALARM).any())


def finds(flips: Flips, rng: np.random.Generator, run: int) -> bool:
    """Return whether a drop planted into one class is named."""
    sizes, lost, won = deal(flips, rng)
    hurt = run % len(sizes)
    room = int(sizes[hurt] - lost[hurt] - won[hurt])
    lost[hurt] += min(room, round(PLANTED * sizes[hurt]))
    return bool(find_hurt(sizes, lost, won, run)[hurt] <= ALARM)


if __name__ == "__main__":
    sys.exit(main())
