"""Predicted against measured latency of random recipes on this machine, over the zoo and the gallery of odd models.

What a Session foretells once it had time to measure kernels. They are measured afresh, each on its own: no model
runs before its latency is predicted. A model's recipes (filters pruned alone and with 8 bits, int8, masks, low
rank) are then measured beside its dense files (float and int8) in one interleaved run (rule of rejection:
``measure_interleaved``), and what is predicted is scaled by the dense file's figure of that run, as ``measure``
has it in a Session: drift of the machine is in both. Noisy recipes are measured again, then given up and counted.
The dense files themselves are not judged.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from tests.gallery import CLASSES, CLASSIFIERS, SHAPE, build
from workbench.compression import compress_subject, context_for
from workbench.data.dataset import Dataset
from workbench.data.load import load_dataset
from workbench.errors import WorkbenchError
from workbench.evaluation import Evaluator
from workbench.latency import LatencyEstimator
from workbench.measure.latency import measure_interleaved
from workbench.models.load import load_model
from workbench.models.zoo import ARCHITECTURES
from workbench.recipe import Recipe
from workbench.subject import Subject

WITHIN, SHARE, LEAST = 0.10, 0.90, 100
ATTEMPTS = 3
INT8 = {"quantize": {"bits": 8, "scheme": "symmetric", "activations": {"bits": 8}}}


@dataclass(frozen=True)
class Row:
    """``ratio`` and ``predicted``: of the dense file's time, in the same run."""

    model: str
    kind: str
    ms: float
    ratio: float
    predicted: float

    @property
    def error(self) -> float:
        return self.predicted / self.ratio - 1


def main() -> int:
    """Print a row a recipe; return 1 where too few are predicted well."""
    parser = argparse.ArgumentParser(prog="predicted", description=__doc__)
    parser.add_argument("--models", default=",".join((*ARCHITECTURES, *CLASSIFIERS)))
    parser.add_argument("--recipes", type=int, default=8, metavar="N", help="of each zoo model; half of a gallery one")
    options = parser.parse_args()
    unknown = set(options.models.split(",")) - {*ARCHITECTURES, *CLASSIFIERS}
    if unknown:
        parser.error(f"no model of the zoo or the gallery is named {', '.join(sorted(unknown))}")
    torch.set_num_threads(1)
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    rows: list[Row] = []
    rejected = 0
    with tempfile.TemporaryDirectory() as home:
        os.environ["WORKBENCH_HOME"] = home  # kernels measured before, perhaps beside other work, are not used
        for name in options.models.split(","):
            count = options.recipes if name in ARCHITECTURES else max(2, options.recipes // 2)
            try:
                found, noisy = _compare(name, count)
            except WorkbenchError as error:
                print(f"{name:<18} left out: {error}", flush=True)
                continue
            rows += found
            rejected += noisy
            for row in found:
                print(
                    f"{row.model:<18}{row.kind:<26}{row.ms:>9.4f} ms  {row.ratio:>6.3f} of dense, "
                    f"predicted {row.predicted:.3f} ({row.error:+.1%})",
                    flush=True,
                )
    return _summary(rows, rejected)


def _compare(name: str, count: int) -> tuple[list[Row], int]:
    """Return a row for each recipe that was measured quietly, and how many were not."""
    torch.manual_seed(0)
    model = load_model(name) if name in ARCHITECTURES else load_model(build(name))
    data = load_dataset("fashion_mnist") if name in ARCHITECTURES else _noise()
    subject = Subject.of(model, data.image_shape)
    normalization = model.normalization or data.normalization
    graphs = Evaluator(subject, data["test"], normalization).graphs
    estimator, context = LatencyEstimator(subject, graphs, data, normalization), context_for(model, data)
    dense = compress_subject(subject, Recipe(), context)
    chosen = []
    in_int8 = compress_subject(subject, Recipe.parse([INT8]), context)
    files = [estimator.file(dense), estimator.file(in_int8)]
    for kind, recipe in _recipes(name, count):
        with contextlib.suppress(WorkbenchError):  # a technique with nothing to do in this model, or a file, says so
            compressed = compress_subject(subject, recipe, context)
            files.append(estimator.file(compressed))
            chosen.append((kind, compressed))
            estimator.predict(compressed)  # meets its kernels, as a Session does before it learns
    estimator.learn(lambda: False, seconds=180)
    rows: dict[int, Row] = {}
    for _ in range(ATTEMPTS):
        baseline, rounded, *measured = measure_interleaved(files, data.image_shape)
        estimator.scale_by(baseline.latency, None if rounded.noisy else rounded.latency)
        for place, ((kind, compressed), found) in enumerate(zip(chosen, measured, strict=True)):
            if place in rows or baseline.noisy or found.noisy:
                continue
            after = estimator.predict(compressed)
            if after is None:
                raise WorkbenchError("its kernels are not known, so nothing is predicted.")
            dense_ms, ms = baseline.latency.ms, found.latency.ms
            rows[place] = Row(name, kind, ms, ms / dense_ms, after.ms / dense_ms)
        if len(rows) == len(chosen):
            break
    return list(rows.values()), len(chosen) - len(rows)


def _recipes(name: str, count: int) -> Iterator[tuple[str, Recipe]]:
    """Yield recipes drawn at random, most of them structured or int8; the same ones each time."""
    chance = random.Random(name)
    for place in range(count):
        ratio = round(chance.uniform(0.15, 0.75), 3)
        filters = {"prune": {"granularity": "filter", "ratio": ratio, "scope": chance.choice(("layer", "global")),
                             "multiple": chance.choice((8, 8, 4, 1))}}  # fmt: skip
        kinds: dict[str, list[object]] = {
            "filters": [filters], "filters, int8": [filters, INT8], "low rank": [{"factorize": {}}],
            "masks": [{"prune": {"ratio": ratio}}], "filters again": [filters], "filters, int8 again": [filters, INT8],
            "filters of some layers": [{"prune": {**filters["prune"], "layers": ["*1*", "*fc*"]}}],
            "masks, int8": [{"prune": {"ratio": ratio}}, INT8],
        }  # fmt: skip
        kind = list(kinds)[place % len(kinds)]
        yield f"{kind} {ratio:.2f}", Recipe.parse(kinds[kind])


def _noise() -> Dataset:
    """Return images for the gallery's models, which are never judged here."""
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.rand(256, *SHAPE, generator=generator), torch.arange(256) % CLASSES
    return load_dataset((images, labels))


def _summary(rows: list[Row], rejected: int) -> int:
    if not rows:
        print("every recipe was too noisy to judge; measure on a quieter machine")
        return 1
    errors = np.array([row.error for row in rows])
    share = float((np.abs(errors) <= WITHIN).mean())
    print(
        f"\n{len(rows)} recipes, {rejected} noisy ones rejected: {share:.0%} within ±{WITHIN:.0%} (asked: {SHARE:.0%})"
    )
    for label in ("filters", "int8", "masks", "low rank"):
        own = [row.error for row in rows if label in row.kind]
        if own:
            print(f"  {label:<10} {len(own):>4}: median error {statistics.median(own):+.1%}, "
                  f"within: {np.mean(np.abs(own) <= WITHIN):.0%}")  # fmt: skip
    for name in dict.fromkeys(row.model for row in rows):
        own = [row.error for row in rows if row.model == name]
        print(f"  {name:<18} median error {statistics.median(own):+.1%}, within: {np.mean(np.abs(own) <= WITHIN):.0%}")
    return 0 if len(rows) >= LEAST and share >= SHARE else 1


if __name__ == "__main__":
    sys.exit(main())
