"""How fast the engine answers: recipe set → size, → first sampled accuracy; memory over 200 moves; true sizes."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import torch

from tests.bench.figures import first_figures
from tests.bench.recipes import random_live_recipes
from workbench.data.load import load_dataset
from workbench.recipe import Recipe
from workbench.reopening import load_compressed
from workbench.session import Session

MODELS = ("lenet300", "lenet5", "resnet20")
MOVES = 60
FIRST_MS, MEMORY_GROWTH = 100.0, 0.05


def main() -> int:
    """Print the figures and return 1 where one misses what it must reach."""
    data = load_dataset("fashion_mnist")
    results = [_measure(Session(name, data, history=":memory:"), name) for name in MODELS]
    return 0 if all(results) else 1


def _measure(session: Session, name: str) -> bool:
    with session:
        session.measure()
        times = np.array([_one_move(session, recipe) for recipe in random_live_recipes(MOVES, seed=1)])
        growth, newest = _drag(session)
        same = _sizes_are_true(session, random_live_recipes(12, seed=2))
    for column, label in enumerate(("size and latency", "first sampled accuracy")):
        middle, late = np.percentile(times[:, column], (50, 95))
        print(f"{name:10} recipe set → {label:24} median {middle:6.1f} ms   p95 {late:6.1f} ms")
    print(f"{name:10} 200 moves in 10 s: last one's figures shown {newest}, memory grew {growth:+.1%}")
    print(f"{name:10} size equals bytes on disk and reloaded outputs are bit-identical: {same} of 12")
    reached = float(np.percentile(times[:, 1], 95)) <= FIRST_MS
    return reached and newest and growth <= MEMORY_GROWTH and same == 12


def _one_move(session: Session, recipe: Recipe) -> tuple[float, float]:
    times = first_figures(session, recipe, "size", "accuracy")
    return times["size"], times["accuracy"]


def _drag(session: Session) -> tuple[float, bool]:
    recipes = random_live_recipes(200, seed=3)
    pause = threading.Event()
    for recipe in random_live_recipes(60, seed=4):  # fill the caches, which are bounded
        session.apply(recipe)
        pause.wait(0.05)
    before = _resident()
    older_after_newest: list[int] = []
    newest = 0
    end = session.subscribe(
        lambda snapshot: older_after_newest.append(1) if newest and snapshot.generation < newest else None
    )
    for recipe in recipes:
        session.apply(recipe)
        pause.wait(0.05)
    newest = session._bulletin.generation
    last = session.measure()
    end()
    return _resident() / before - 1, last.recipe == recipes[-1] and not older_after_newest


def _sizes_are_true(session: Session, recipes: list[Recipe]) -> int:
    images = torch.randn(8, *session.data.image_shape)
    equal = 0
    for recipe in recipes:
        shown = session.measure(recipe).size.bytes  # type: ignore[union-attr]
        with tempfile.TemporaryDirectory() as folder:
            path = session.compressed.save(Path(folder) / "small.wbz")
            loaded = load_compressed(path)
            on_disk = path.stat().st_size
        with torch.inference_mode():
            same = torch.equal(loaded.module(images), session.compressed.module(images))
        equal += shown == on_disk and same
    return equal


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    sys.exit(main())
