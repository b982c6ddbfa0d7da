"""Deep Compression without retraining: the LeNets' smallest files at one point lost, against int8.

Prune, share, Huffman (Han, Mao and Dally 2016), and beside it what calibration data adds without labels: what is
pruned and rounded is made up for by the weights that stay (OBS, then GPTQ), and ANS codes. The ratio and the number
of levels are chosen on the validation split, first the same for all layers, then layer by layer for as long as the
file shrinks; what is printed and judged is measured on the test split.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TypeVar

from tests.bench.record import Figure, keep
from workbench.data.load import load_dataset
from workbench.recipe import Recipe
from workbench.session import Session
from workbench.snapshot import Snapshot

DATA = "fashion_mnist"
MODELS, POINTS, WANTED = ("lenet300", "lenet5"), 1.0, 3.0
#: What may be lost on the validation split: the test split's own scatter takes the rest.
ALLOWED = 0.75
T = TypeVar("T")
RATIOS = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
Layers = tuple[str, ...]


@dataclass(frozen=True)
class Choice:
    """Per layer the share of weights pruned, and how many values the others can take."""

    ratios: tuple[float, ...]
    levels: tuple[int, ...]


def overrides(layers: Layers, setting: str, values: Sequence[float]) -> dict[str, dict[str, float]]:
    """Return what gives each layer its own value of a setting."""
    return {name: {setting: value} for name, value in zip(layers, values, strict=True)}


def shared(choice: Choice, layers: Layers) -> Recipe:
    """Return Deep Compression's steps: the smallest magnitudes pruned, the others in a codebook."""
    ratios = overrides(layers, "ratio", choice.ratios)
    entries = overrides(layers, "entries", choice.levels)
    return Recipe.parse(
        [
            {"prune": {"scope": "layer", "overrides": ratios}},
            {"share": {"start": "density", "overrides": entries}},
        ]
    )


def made_up_for(choice: Choice, layers: Layers) -> Recipe:
    """Return steps after each of which the weights that stay make up for what was lost."""
    ratios = overrides(layers, "ratio", choice.ratios)
    bits = overrides(layers, "bits", [max(1, (count - 1).bit_length()) for count in choice.levels])
    return Recipe.parse(
        [
            {"prune": {"criterion": "obs", "scope": "layer", "overrides": ratios}},
            {"quantize": {"range": "mse", "rounding": "gptq", "overrides": bits}},
        ]
    )


@dataclass(frozen=True)
class Way:
    """A kind of recipe, the numbers of levels that are tried for all layers, and the least step in ratios."""

    label: str
    recipe: Callable[[Choice, Layers], Recipe]
    levels: tuple[int, ...]
    finest: float


WAYS = (
    Way("prune + share + Huffman", shared, (32, 16, 12, 8, 6, 5, 4), 0.01),
    Way("OBS + GPTQ + ANS", made_up_for, (8, 4), 0.04),
)


class Search:
    """The smallest file that loses at most so many points on the validation split."""

    def __init__(self, session: Session, way: Way) -> None:
        self._session, self._way = session, way
        self._layers = tuple(layer.name for layer in session.layers)
        self._base = _accuracy(session.measure())
        self.best, self.size = Choice((), ()), 1 << 60
        self.tried = 0

    def run(self) -> Recipe:
        """Return the recipe of the best choice."""
        count = len(self._layers)
        for ratio, levels in product(RATIOS, self._way.levels):
            self.accepts(Choice((ratio,) * count, (levels,) * count))
        step = 0.08
        while step >= self._way.finest:
            moved = [self.accepts(choice) for place in range(count) for choice in self.neighbours(place, step)]
            step = step if any(moved) else step / 2
        return self._way.recipe(self.best, self._layers)

    def neighbours(self, place: int, step: float) -> list[Choice]:
        """Return what differs in one layer, or gives one layer what it takes from another."""
        ratios, levels = self.best.ratios, self.best.levels
        found = [replace(self.best, ratios=_with(ratios, place, min(0.99, ratios[place] + step)))]
        found.append(replace(self.best, levels=_with(levels, place, max(2, round(levels[place] * (1 - 2 * step))))))
        for other in range(len(ratios)):
            if other != place:
                milder = _with(ratios, other, max(0.0, ratios[other] - step))
                found.append(replace(self.best, ratios=_with(milder, place, min(0.99, ratios[place] + step))))
        return found

    def accepts(self, choice: Choice) -> bool:
        """Whether the choice is smaller and loses no more than allowed: then it is the best so far."""
        recipe = self._way.recipe(choice, self._layers)
        size = self._session.compress(recipe).nbytes
        if size >= self.size:
            return False
        self.tried += 1
        if 100 * (self._base - _accuracy(self._session.measure(recipe))) > ALLOWED:
            return False
        self.best, self.size = choice, size
        return True


@dataclass(frozen=True)
class Row:
    """What one way came to on the test split: accuracies in per cent, sizes in bytes."""

    way: str
    dense: float
    accuracy: float
    bytes: int
    ratio: float
    int8_accuracy: float
    int8_bytes: int
    recipe: str
    tried: int
    seconds: float

    @property
    def lost(self) -> float:
        """Points lost."""
        return self.dense - self.accuracy

    @property
    def below_int8(self) -> float:
        """How many times smaller the file is than int8's."""
        return self.int8_bytes / self.bytes


def main() -> int:
    """Print and keep sizes and accuracies; return 1 where a file is not small enough or loses too much."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=list(MODELS), metavar="MODEL")
    reached = []
    for name in parser.parse_args().models:
        rows: list[Row] = []
        for way in WAYS:  # the second takes longest: what the first came to is kept meanwhile
            rows.append(measured(name, way))
            figures = [figure(name, row) for row in rows]
            seconds = sum(row.seconds for row in rows)
            keep(f"deep_compression_{name}", figures, data=DATA, seeds=[0], seconds=seconds, runs=rows)
        reached += [one.reached for one in figures]
    return 0 if all(reached) else 1


def measured(name: str, way: Way) -> Row:
    """Search on the validation split, measure on the test split, and print both."""
    data = load_dataset(DATA)
    start = time.perf_counter()
    with Session(name, data, split="validation", history=":memory:") as session:
        search = Search(session, way)
        recipe = search.run()
    seconds = time.perf_counter() - start
    with Session(name, data, history=":memory:") as session:
        dense = session.measure()
        integers = session.measure("- quantize: {bits: 8}")
        found = session.measure(recipe)
    assert found.size is not None
    print(f"{name}, {len(data['test']):,} test images; {search.tried} settings measured in {seconds:.0f} s")
    for label, snapshot in (("dense fp32", dense), ("int8", integers), (way.label, found)):
        assert snapshot.size is not None
        lost = 100 * (_accuracy(dense) - _accuracy(snapshot))
        print(
            f"  {label:24} {snapshot.size.bytes:>9,} bytes  {snapshot.size.ratio:5.1f}×  "
            f"{_accuracy(snapshot):.2%}  {lost:+.2f} points lost"
        )
    print("  " + recipe.to_yaml().replace("\n", "\n  ").rstrip(), flush=True)
    return Row(
        way.label,
        *(round(100 * _accuracy(snapshot), 2) for snapshot in (dense, found)),
        found.size.bytes,
        found.size.ratio,
        round(100 * _accuracy(integers), 2),
        _bytes(integers),
        recipe.to_json(),
        search.tried,
        seconds,
    )


def figure(name: str, row: Row) -> Figure:
    """Return in words what was asked of one way, and what it came to."""
    return Figure(
        f"{name} by {row.way}, without retraining",
        f"≥ {WANTED:g}× smaller than int8 at ≤ {POINTS:g} point lost",
        f"{row.below_int8:.2f}× smaller than int8 ({row.ratio:.1f}× than fp32, {row.bytes:,} bytes), "
        f"{row.lost:.2f} points lost of {row.dense:.2f} %",
        row.below_int8 >= WANTED and row.lost <= POINTS,
    )


def _with(values: tuple[T, ...], place: int, value: T) -> tuple[T, ...]:
    return (*values[:place], value, *values[place + 1 :])


def _accuracy(snapshot: Snapshot) -> float:
    assert snapshot.accuracy is not None
    return snapshot.accuracy.value


def _bytes(snapshot: Snapshot) -> int:
    assert snapshot.size is not None
    return snapshot.size.bytes


if __name__ == "__main__":
    sys.exit(main())
