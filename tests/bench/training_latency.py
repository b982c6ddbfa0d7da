"""How much faster ResNet-20 with half the MACs, pruned by channels, is than dense in ONNX Runtime.

Both files are timed in turns, each in a process pinned to a core. Training, which wins the accuracy back
(``training_resnet20 channels``), would not change what is timed.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from tests.bench.record import Figure, keep
from tests.bench.training_resnet20 import CASES, MODEL
from workbench.data.dataset import Dataset
from workbench.data.load import load_dataset
from workbench.deploy.benchmark import benchmark
from workbench.deploy.formats import find_format
from workbench.deploy.writing import prepare, write
from workbench.models.load import load_model
from workbench.recipe import Recipe

#: How many times faster than dense it must be.
FASTER = 1.5
#: Seconds of timing for each file.
SECONDS = 8.0
DATA = "fashion_mnist"


def main() -> int:
    """Print and keep the figure; return 1 where it misses what it must reach."""
    begin, data = time.perf_counter(), load_dataset(DATA)
    pruning = Recipe.parse(CASES["channels"].steps)
    with tempfile.TemporaryDirectory() as folder:
        files = [_onnx(recipe, data, Path(folder)) for recipe in (Recipe(), pruning)]
        dense, pruned = benchmark(files, runtimes=["onnxruntime"], seconds=SECONDS, kernels=False)
    share = pruned.ratio
    assert share is not None, "only the first file has none"
    faster = 1 / share.median
    figure = Figure(
        f"{MODEL}, half the MACs by channels: latency in ONNX Runtime", f"≥ {FASTER:g}× faster than dense",
        f"{faster:.2f}× ({1 / share.high:.2f} to {1 / share.low:.2f}): {dense.ms.median:.3f} ms dense, "
        f"{pruned.ms.median:.3f} ms pruned, one image on one core",
        faster >= FASTER,
    )  # fmt: skip
    runs = [{"label": name, **asdict(one.ms)} for name, one in (("dense", dense), ("pruned", pruned))]
    keep("training_latency", [figure], data=DATA, seeds=[0], seconds=time.perf_counter() - begin, runs=runs,
         recipe=pruning.to_data())  # fmt: skip
    return 0 if figure.reached else 1


def _onnx(recipe: Recipe, data: Dataset, folder: Path) -> Path:
    (path,) = write(find_format("onnx"), prepare(load_model(MODEL), data, recipe), folder)
    return path


if __name__ == "__main__":
    sys.exit(main())
