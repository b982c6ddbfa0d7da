"""Exact accuracy on the whole test split: this engine against eager PyTorch as people write it, in turn."""

from __future__ import annotations

import sys
import time

import numpy as np
import torch
from torch import nn

from workbench.data.dataset import Split
from workbench.data.load import load_dataset
from workbench.recipe import Recipe
from workbench.session import Session

MODEL, ROUNDS, WANTED = "resnet20", 3, 2.5


def main() -> int:
    """Print both times and their ratio; return 1 where the ratio misses what it must reach."""
    torch.set_num_threads(2)
    data = load_dataset("fashion_mnist")
    ratios = []
    with Session(MODEL, data, history=":memory:") as session:
        session.measure()
        for index in range(ROUNDS):
            recipe = Recipe.parse(f"- prune: {{ratio: {0.3 + index / 10}}}")
            start = time.perf_counter()
            ours = session.measure(recipe)
            middle = time.perf_counter()
            by_hand = _evaluate(session.compressed.module, data["test"], data)
            end = time.perf_counter()
            assert ours.accuracy is not None
            assert abs(ours.accuracy.value - by_hand) <= 2e-4, (ours.accuracy.value, by_hand)
            ratios.append((end - middle) / (middle - start))
            print(
                f"round {index + 1}: engine {middle - start:5.2f} s, eager NCHW batch 64 {end - middle:5.2f} s, "
                f"ratio {ratios[-1]:.2f}, accuracy {ours.accuracy.value:.4f} and {by_hand:.4f}"
            )
    ratio = float(np.median(ratios))
    work = 2 * sum(layer.macs for layer in session.layers) * len(data["test"]) / 1e9
    print(f"the split is {work:,.0f} GFLOP of multiply-accumulates in fp32")
    print(f"{MODEL}, {len(data['test']):,} images: {ratio:.2f}× faster (median), must be ≥ {WANTED}×")
    return 0 if ratio >= WANTED else 1


def _evaluate(module: nn.Module, split: Split, data: object) -> float:
    """Evaluate as a tutorial would: a loop over batches of 64 in eager mode."""
    correct = 0
    with torch.inference_mode():
        for images, labels in zip(split.images.split(64), split.labels.split(64), strict=True):
            answers = module(data.normalization(images)).argmax(1)  # type: ignore[attr-defined]
            correct += int((answers == labels).sum())
    return correct / len(split)


if __name__ == "__main__":
    sys.exit(main())
