"""Half of ResNet-20's MACs and 8 bits: how many times faster than the dense fp32 file in ONNX Runtime.

The files are what the exports write; all run in one interleaved measurement, each round's times over the
dense file's of the same round. Filters leave in multiples of eight, or whole residual blocks do, by several
rules: the one with which the runtimes are quickest counts. Kernels are least busy in the first stage, whose 16
channels fill none of their blocks, and spend the most there on what is no multiplication; the last rules take
that stage out whole, and keep the later layers' widths at multiples of 16. What such a network answers after
training: ``training_resnet20 channels`` and ``blocks``.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import warnings
from pathlib import Path

import torch

from workbench.data.load import load_dataset
from workbench.deploy.benchmark import Benchmark, benchmark
from workbench.deploy.formats import find_format
from workbench.deploy.writing import prepare, write
from workbench.models.load import load_model
from workbench.recipe import Recipe

LEAST_SPEEDUP, MACS = 2.2, 0.5
_HALVED = "granularity: filter, ratio: 0.5, scope: layer, multiple: 16"
_WHOLE = "- prune: {granularity: layer, criterion: random, ratio: 0.99, layers: ['stage1.*']}\n"
RULES = {
    "each layer alike": "- prune: {granularity: filter, macs: 0.5, scope: layer}",
    "over all layers": "- prune: {granularity: filter, macs: 0.5, scope: global}",
    "inside the blocks": "- prune: {granularity: filter, ratio: 0.5, scope: layer, layers: ['stage*.*.conv1']}",
    "fewer blocks": "- prune: {granularity: layer, macs: 0.5, images: 64}",
    "no stage 1, inside 2": f"{_WHOLE}- prune: {{{_HALVED}, layers: ['stage2.*.conv1']}}",
    "no stage 1, inside 3": f"{_WHOLE}- prune: {{{_HALVED}, layers: ['stage3.*.conv1']}}",
}
FORMATS = ("onnx", "onnx-int8", "openvino-int8", "executorch-int8", "litert-int8")


def main() -> int:
    """Print a row a file; return 1 where the best int8 file of half the MACs is too slow."""
    parser = argparse.ArgumentParser(prog="half_macs", description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="for each file")
    options = parser.parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        files, shares = _write(Path(name))
        rows = benchmark(list(files), seconds=options.seconds, shape=(1, 28, 28), kernels=False)
    print(f"{'rule':<22}{'MACs':>6}  {'format':<17}{'ms':>8}{'faster':>9}  95 % interval   runtime")
    best = 0.0
    for (rule, format), row in zip(files.values(), rows, strict=True):
        speedup = 1.0 if row.ratio is None else 1 / row.ratio.median
        print(f"{rule:<22}{shares[rule]:>6.0%}  {format:<17}{row.ms.median:>8.4f}{speedup:>8.2f}×  {_interval(row)}")
        if format.endswith("int8") and rule in RULES and shares[rule] <= MACS + 0.02:
            best = max(best, speedup)
    noise = rows[0].noise
    print(f"best: {best:.2f}× of the {LEAST_SPEEDUP}× asked; {noise.verdict} {' '.join(noise.findings)}")
    return 0 if best >= LEAST_SPEEDUP else 1


def _write(folder: Path) -> tuple[dict[Path, tuple[str, str]], dict[str, float]]:
    """Return the files with their rule and format, the dense fp32 one first, and each rule's share of MACs."""
    model, data = load_model("resnet20"), load_dataset("fashion_mnist")
    few = {name: split.take(torch.arange(min(512, len(split)))) for name, split in data.splits.items()}
    data = dataclasses.replace(data, splits=few)
    files: dict[Path, tuple[str, str]] = {}
    shares: dict[str, float] = {}
    for rule, text in {"dense": "[]", **RULES}.items():
        for format in FORMATS:
            chosen = find_format(format)
            if not chosen.installed:
                continue
            recipe, _ = chosen.complete(Recipe.parse(text))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                source = prepare(model, data, recipe)
                path = write(chosen, source, folder)[0]
            files[path] = (rule, format)
            shares[rule] = _macs(source.module, data.image_shape)
    dense = shares["dense"]
    return files, {rule: macs / dense for rule, macs in shares.items()}


def _macs(module: torch.nn.Module, shape: tuple[int, ...]) -> float:
    """Return the multiply-accumulates of one image."""
    from workbench.models.macs import count_macs

    counted: list[int] = []
    handles = [
        part.register_forward_hook(lambda part, args, kwargs, out: counted.append(count_macs(part, args, kwargs, out)),
                                   with_kwargs=True)
        for part in module.modules() if not any(True for _ in part.children())
    ]  # fmt: skip
    with torch.inference_mode():
        module(torch.zeros(1, *shape))
    for handle in handles:
        handle.remove()
    return float(sum(counted))


def _interval(row: Benchmark) -> str:
    if row.ratio is None:
        return f"{'':<16}{row.runtime}"
    return f"{1 / row.ratio.high:.2f}–{1 / row.ratio.low:.2f}×     {row.runtime}"


if __name__ == "__main__":
    sys.exit(main())
