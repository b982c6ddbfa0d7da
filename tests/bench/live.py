"""How fast every live technique follows a slider: recipe set → size and latency, the first time and later.

Each family's settings move at random in a session of its own, which had a quiet moment to prepare itself: for that
moment's part in it (each position of a slider of whole numbers, such as bits), see ``workbench.rehearsal``. "First" is
a recipe that nobody asked for in it before, "later" the same ones once more in another order; a move comes while the
images of the one before are running, as it does on the page.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
import torch

from tests.bench.figures import first_figures
from workbench.data.dataset import Dataset
from workbench.data.load import load_dataset
from workbench.recipe import Recipe
from workbench.rehearsal import examples
from workbench.session import Session
from workbench.techniques import Cost

MODELS = ("lenet300", "lenet5", "resnet20")
MOVES, MOST_MS = 24, 30.0
#: Seconds from a move's figures to the next move: enough for its images to be running.
PAUSE = 0.03

Chance = np.random.Generator
Family = Callable[[Chance], str]


def _ratio(chance: Chance) -> str:
    return f"{chance.uniform(0.05, 0.95):.3f}"


def _bits(chance: Chance, least: int = 2, most: int = 8) -> int:
    return int(chance.integers(least, most, endpoint=True))


def _prune(more: str) -> Family:
    return lambda chance: f"- prune: {{ratio: {_ratio(chance)}, {more}}}"


def _quantize(more: str, least: int = 2) -> Family:
    return lambda chance: f"- quantize: {{bits: {_bits(chance, least)}, {more}}}"


def _share(more: str) -> Family:
    return lambda chance: f"- share: {{bits: {_bits(chance, 1)}, {more}}}"


def _after_pruning(family: Family) -> Family:
    return lambda chance: f"- prune: {{ratio: {_ratio(chance)}}}\n{family(chance)}"


FAMILIES: dict[str, Family] = {
    "prune weights": _prune("scope: global"),
    "prune weights, each layer": _prune("scope: layer"),
    "prune at random": lambda chance: (
        f"- prune: {{criterion: random, ratio: {_ratio(chance)}, seed: {chance.integers(99)}}}"
    ),
    "prune N:M": lambda chance: f"- prune: {{granularity: 'n:m', ratio: 0.5, n: {chance.integers(1, 4)}, m: 4}}",
    "prune blocks": _prune("granularity: block"),
    "prune rows": _prune("granularity: row"),
    "prune kernels": _prune("granularity: kernel"),
    "prune filters": _prune("granularity: filter"),
    "prune filters by median": _prune("granularity: filter, criterion: fpgm"),
    "quantize affine": _quantize("scheme: affine"),
    "quantize per tensor": _quantize("scheme: symmetric, per: tensor"),
    "quantize groups": lambda chance: (
        f"- quantize: {{bits: {_bits(chance)}, per: group, group_size: {2 ** chance.integers(3, 7)}}}"
    ),
    "quantize percentile": lambda chance: (
        f"- quantize: {{bits: {_bits(chance)}, range: percentile, percentile: {chance.uniform(98, 100):.2f}}}"
    ),
    "quantize mse": _quantize("range: mse"),
    "quantize groups, mse": _quantize("range: mse, per: group, group_size: 32"),
    "quantize entropy": _quantize("range: entropy"),
    "quantize by chance": lambda chance: (
        f"- quantize: {{bits: {_bits(chance)}, rounding: stochastic, seed: {chance.integers(99)}}}"
    ),
    "fixed point": _quantize("format: fixed"),
    "short floats": lambda chance: f"- quantize: {{format: {chance.choice(['fp16', 'bf16', 'fp8_e4m3', 'fp8_e5m2'])}}}",
    "binary, ternary": lambda chance: f"- quantize: {{format: {chance.choice(['binary', 'ternary'])}}}",
    "k-means levels": _quantize("format: kmeans"),
    "powers of two": _quantize("format: pot"),
    "sums of powers, mse": _quantize("format: apot, range: mse"),
    "normal quantiles, mse": _quantize("format: nf, range: mse", 2),
    "codebook": _share("start: linear"),
    "codebook, density": _share("start: density"),
    "codebook, random": lambda chance: (
        f"- share: {{bits: {_bits(chance, 1)}, start: random, seed: {chance.integers(99)}}}"
    ),
    "codebook, groups": _share("scope: group, group: 8"),
    "codebook, all layers": _share("scope: model"),
    "hash": _share("method: hash"),
    "prune, then quantize": _after_pruning(_quantize("scheme: affine")),
    "prune, then mse": _after_pruning(_quantize("range: mse")),
    "prune, then codebook": _after_pruning(_share("start: density")),
    "factorize": lambda chance: f"- factorize: {{size: {chance.uniform(0.1, 0.9):.2f}}}",
    "factorize by energy": lambda chance: f"- factorize: {{energy: {chance.uniform(0.5, 0.99):.3f}}}",
    "factorize by tucker2": lambda chance: f"- factorize: {{scheme: tucker2, size: {chance.uniform(0.1, 0.9):.2f}}}",
    "factorize by tucker": lambda chance: f"- factorize: {{scheme: tucker, size: {chance.uniform(0.1, 0.9):.2f}}}",
    "factorize by train": lambda chance: f"- factorize: {{scheme: tt, size: {chance.uniform(0.1, 0.9):.2f}}}",
    "factorize, then quantize": lambda chance: (
        f"- factorize: {{size: {chance.uniform(0.1, 0.9):.2f}}}\n- quantize: {{bits: {_bits(chance)}}}"
    ),
    "equalize, then quantize": lambda chance: f"- equalize: {{}}\n- quantize: {{bits: {_bits(chance)}}}",
    "pack": lambda chance: (
        f"- quantize: {{bits: {_bits(chance)}}}\n- pack: {{code: {chance.choice(['huffman', 'ans', 'none'])}}}"
    ),
}


def main() -> int:
    """Print a row a family and model; return 1 where one is slower than it may be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=list(MODELS), metavar="MODEL")
    parser.add_argument("--only", default="", help="families whose name holds this")
    parser.add_argument("--moves", type=int, default=MOVES)
    options = parser.parse_args()
    torch.set_num_threads(2)
    data = load_dataset("fashion_mnist")
    chosen = {name: family for name, family in FAMILIES.items() if options.only in name}
    print(f"recipe set → size and latency, ms; p95 of the first visits must be ≤ {MOST_MS:.0f}")
    with tempfile.TemporaryDirectory() as folder:  # the dense models' answers are found once
        slow = [
            f"{model}: {name}"
            for model in options.models
            for name, family in chosen.items()
            if not _follows(model, name, family, data, options.moves, f"{folder}/history.sqlite")
        ]
    print(f"slower than {MOST_MS:.0f} ms: {'; '.join(slow) or 'none'}")
    return 1 if slow else 0


def _follows(model: str, name: str, family: Family, data: Dataset, moves: int, history: str) -> bool:
    chance = np.random.default_rng(0)
    texts = list(dict.fromkeys(family(chance) for _ in range(3 * moves)))[:moves]
    prepared = {recipe.hash for recipe in examples()}  # not for the first time where they come
    recipes = [recipe for recipe in map(Recipe.parse, texts) if recipe.hash not in prepared]
    assert all(recipe.cost is Cost.LIVE for recipe in recipes)
    with Session(model, data, history=history) as session:
        session.measure()
        session.prepare()
        first = [_until_figures(session, recipe) for recipe in recipes]
        later = [_until_figures(session, recipes[place]) for place in chance.permutation(len(recipes))]
    (middle, late), (again, again_late) = (np.percentile(times, (50, 95)) for times in (first, later))
    verdict = "" if late <= MOST_MS else "  MISSED"
    print(
        f"{model:10}{name:28} first p50 {middle:6.1f}  p95 {late:6.1f}   later p50 {again:6.1f}  p95 {again_late:6.1f}"
        f"{verdict}",
        flush=True,
    )
    return bool(late <= MOST_MS)


def _until_figures(session: Session, recipe: Recipe) -> float:
    """Return the milliseconds to size and latency, and leave the images a moment to begin."""
    stamps = first_figures(session, recipe, "size", "latency")
    time.sleep(PAUSE)
    return max(stamps.values())


if __name__ == "__main__":
    sys.exit(main())
