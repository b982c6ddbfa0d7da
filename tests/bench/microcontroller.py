"""The C export against ONNX Runtime's int8 kernels: the same classes, and the bytes that were promised.

Flash and RAM are compared with what ``arm-none-eabi-gcc`` makes for a Cortex-M4, where it is installed.
Models other than LeNet-5 run a part of the images: their plain C loops take a tenth of a second each.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import torch

from workbench.data.load import load_dataset
from workbench.deploy.microcontroller.compiled import CompiledModel, weigh
from workbench.deploy.microcontroller.footprint import fits, footprint
from workbench.deploy.microcontroller.lower import LoweringError, lower
from workbench.deploy.microcontroller.source import write_source
from workbench.models.zoo import ARCHITECTURES
from workbench.recipe import Recipe
from workbench.run.runner import OnnxRunner
from workbench.session import Session

INT8 = "- quantize: {bits: 8, scheme: symmetric, activations: {bits: 8}}"
LEAST_AGREEMENT, MOST_OFF = 0.999, 0.05
IMAGES = {"lenet300": 10_000, "lenet5": 10_000}
FEW = 300


def main() -> int:
    """Print a row a model; return 1 where LeNet-5 agrees too seldom or a promise is off by too much."""
    torch.set_num_threads(1)
    names = sys.argv[1:] or list(ARCHITECTURES)
    data = load_dataset("fashion_mnist")
    print(
        f"{'model':<14}{'images':>8}{'same class':>12}{'C %':>8}{'ORT %':>8}{'ms':>8}{'flash kB':>10}{'off':>8}", end=""
    )
    print(f"{'RAM kB':>9}{'off':>8}  boards")
    missed = []
    for name in names:
        with Session(name, data, history=":memory:") as session, tempfile.TemporaryDirectory() as folder:
            model = onnx.load_from_string(session.onnx_file(Recipe.parse(INT8)))
            try:
                program = lower(model)
            except LoweringError as refused:
                print(f"{name:<14}{refused}", flush=True)
                continue
            path = write_source(program, Path(folder), name)[0]
            test, count = data["test"], IMAGES.get(name, FEW)
            images, labels = session.normalization(test.images[:count]), test.labels[:count].numpy()
            compiled, runtime = CompiledModel(path), OnnxRunner(model, 1)
            start = time.perf_counter()
            ours = compiled.logits(images).argmax(1)
            seconds = time.perf_counter() - start
            theirs = np.concatenate([runtime.logits(batch) for batch in images.split(64)]).argmax(1)
            same, promised = float((ours == theirs).mean()), footprint(program)
            off = {"flash": 0.0, "ram": 0.0}
            if shutil.which("arm-none-eabi-gcc"):
                taken = weigh(path)
                off = {"flash": promised.flash / taken.flash - 1, "ram": promised.ram / taken.ram - 1}
            verdicts = fits(program)
            boards = f"{sum(fit.fits for fit in verdicts)} of {len(verdicts)}"
            print(
                f"{name:<14}{count:>8,}{same:>12.3%}{np.mean(ours == labels):>8.2%}{np.mean(theirs == labels):>8.2%}"
                f"{1000 * seconds / count:>8.2f}{promised.flash / 1024:>10.0f}{off['flash']:>8.2%}"
                f"{promised.ram / 1024:>9.1f}{off['ram']:>8.2%}  {boards}",
                flush=True,
            )
        if same < LEAST_AGREEMENT or max(map(abs, off.values())) > MOST_OFF:
            missed.append(name)
    print(f"missed: {', '.join(missed)}" if missed else "every model keeps its promises")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
