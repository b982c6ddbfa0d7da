"""Weights in 3 and 2 bits: our post-training methods against plain rounding to nearest, on each zoo model.

The method is chosen on the validation split, plain rounding among the candidates, and reported on the test
split. Also 8-bit weights per channel with 8-bit activations, which must cost half a point at most.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.bench.record import Figure, keep
from workbench.compressed import CompressedModel
from workbench.compression import compress_subject, context_for
from workbench.data.dataset import Dataset
from workbench.data.load import load_dataset
from workbench.evaluation import Evaluator
from workbench.models.load import load_model
from workbench.models.model import Model
from workbench.models.zoo import ARCHITECTURES
from workbench.recipe import Recipe
from workbench.subject import Subject

BITS = (3, 2)
PLAIN = "- quantize: {{bits: {bits}}}"
METHODS = {
    "plain": PLAIN,
    "plain + bias": PLAIN + "\n- correct_bias",
    "mse + BatchNorm": "- quantize: {{bits: {bits}, range: mse}}\n- recalibrate",
    "gptq": "- quantize: {{bits: {bits}, range: mse, rounding: gptq}}",
    "gptq, groups of 16": "- quantize: {{bits: {bits}, per: group, group_size: 16, range: mse, rounding: gptq}}",
}
INT8 = "- quantize: {bits: 8, activations: {bits: 8}}"
#: A loss, in points, from which on half of it must come back; and what int8 may cost.
COUNTED, ALLOWED = 0.5, 0.5


@dataclass(frozen=True)
class Row:
    """What one model came to at one width, in per cent on the test split."""

    model: str
    bits: int
    dense: float
    plain: float
    best: float
    method: str


class Bench:
    """One model on one dataset; accuracies in per cent."""

    def __init__(self, model: Model, data: Dataset) -> None:
        self._subject = Subject.of(model, data.image_shape)
        self._context = context_for(model, data)
        self._normalization = model.normalization or data.normalization
        self._data = data
        self._evaluators: dict[str, Evaluator] = {}

    def compress(self, text: str) -> CompressedModel:
        """Return the model compressed by the recipe ``text``."""
        return compress_subject(self._subject, Recipe.parse(text), self._context)

    def accuracy(self, compressed: CompressedModel, split: str) -> float:
        """Return the accuracy on a whole split."""
        if split not in self._evaluators:
            self._evaluators[split] = Evaluator(self._subject, self._data[split], self._normalization)
        evaluator = self._evaluators[split]
        return 100 * evaluator.correct(evaluator.runner(compressed)) / len(self._data[split])


def main() -> int:
    """Print the table; return 1 where what must be reached is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=sorted(ARCHITECTURES), metavar="MODEL")
    data = load_dataset("fashion_mnist")
    rows: list[Row] = []
    failed = False
    for name in parser.parse_args().models:
        start = time.perf_counter()
        bench = Bench(load_model(name), data)
        dense = bench.accuracy(bench.compress("[]"), "test")
        int8 = bench.accuracy(bench.compress(INT8), "test")
        failed |= dense - int8 > ALLOWED
        print(
            f"{name}: dense {dense:.2f} %, int8 with 8-bit activations {int8:.2f} % ({int8 - dense:+.2f})", flush=True
        )
        found = [_row(bench, name, bits, dense) for bits in BITS]
        record(name, found, dense, int8, time.perf_counter() - start)
        rows += found
    return 1 if _report(rows) or failed else 0


def record(model: str, rows: Sequence[Row], dense: float, int8: float, seconds: float) -> None:
    """Keep what one model came to."""
    figures = [
        Figure(
            f"{model}: int8 per channel with 8-bit activations",
            f"≤ {ALLOWED} points lost",
            f"{int8:.2f} % of {dense:.2f} %, {dense - int8:+.2f} points lost",
            dense - int8 <= ALLOWED,
        )
    ]
    figures += [
        Figure(
            f"{model}: weights in {row.bits} bits, the best post-training method against plain rounding",
            f"never worse; where {COUNTED} points or more are lost, half back in sum over models and widths",
            f"{row.best:.2f} % by {row.method}, {row.plain:.2f} % plain, {row.dense:.2f} % dense",
            row.best >= row.plain,
        )
        for row in rows
    ]
    keep(f"low_bits_{model}", figures, data="fashion_mnist", seeds=[0], seconds=seconds, runs=rows)


def _row(bench: Bench, name: str, bits: int, dense: float) -> Row:
    found: dict[str, tuple[float, CompressedModel]] = {}
    for method, text in METHODS.items():
        start = time.perf_counter()
        compressed = bench.compress(text.format(bits=bits))
        seconds = time.perf_counter() - start
        found[method] = bench.accuracy(compressed, "validation"), compressed
        print(
            f"  {bits} bits, {method:18s} validation {found[method][0]:6.2f} %, {compressed.nbytes:9,} bytes, "
            f"{seconds:5.1f} s",
            flush=True,
        )
    method = max(found, key=lambda key: found[key][0])
    plain, best = (bench.accuracy(found[key][1], "test") for key in ("plain", method))
    return Row(name, bits, dense, plain, best, method)


def _report(rows: list[Row]) -> bool:
    """Print the table; return whether a figure is missed."""
    print(f"\n{'model':13s} bits   dense   plain    best  back  by (chosen on validation)")
    for row in rows:
        lost, back = row.dense - row.plain, row.best - row.plain
        share = f"{back / lost:4.0%}" if lost >= COUNTED else "   –"
        print(f"{row.model:13s} {row.bits:4d} {row.dense:7.2f} {row.plain:7.2f} {row.best:7.2f}  {share}  {row.method}")
    counted = [row for row in rows if row.dense - row.plain >= COUNTED]
    lost, back = (sum(getattr(row, upper) - row.plain for row in counted) for upper in ("dense", "best"))
    worse = [f"{row.model} at {row.bits} bits" for row in rows if row.best < row.plain]
    print(
        f"where plain rounding loses {COUNTED} points or more it loses {lost:.1f} in sum, of which {back:.1f} "
        f"({back / lost if lost else 1:.0%}) come back, must be ≥ 50 %; worse than plain: {', '.join(worse) or 'none'}"
    )
    return bool(worse) or back < 0.5 * lost


if __name__ == "__main__":
    sys.exit(main())
