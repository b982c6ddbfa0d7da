"""Two processes, a core each, against one process on one core: images a second, as a pipeline and by parts of layers.

A ResNet-20 of four times the width and the zoo's MobileNetV2 are large enough for what a pipeline hands over to
weigh little; LeNet-5 is not, and the reason says so. Sharing each layer out sends more: every sum of outputs.
"""

from __future__ import annotations

import sys

import torch

from workbench.deploy.pipeline.compare import compare_pipeline
from workbench.deploy.tensor_parallel.compare import compare_shares
from workbench.models.zoo import ARCHITECTURES
from workbench.models.zoo.resnet import ResNet20

LEAST_SPEEDUP = 1.5
LARGE = "resnet20 of width 64"


def main() -> int:
    """Print a row a model and way; return 1 where the large one gains too little, or answers differ."""
    torch.manual_seed(0)
    modules = {
        LARGE: ResNet20(width=64), "mobilenetv2": ARCHITECTURES["mobilenetv2"](), "lenet5": ARCHITECTURES["lenet5"](),
    }  # fmt: skip
    print(f"{'model':<24}{'one, images/s':>14}{'two, images/s':>14}{'ratio':>7}{'equal':>7}  stages, ms a microbatch")
    reached, equal = 0.0, True
    for name, module in modules.items():
        found = compare_pipeline(module.eval(), torch.rand(512, 1, 28, 28), 2, microbatch=16, microbatches=32)
        stages = " + ".join(f"{ms:.1f}" for ms in found.stage_ms)
        print(
            f"{name:<24}{found.alone.throughput:>14.0f}{found.pipeline.throughput:>14.0f}{found.speedup:>7.2f}"
            f"{found.equal!s:>7}  {stages}\n    {found.reason}",
            flush=True,
        )
        equal &= found.equal
        if name == LARGE:
            reached = found.speedup
    for name, module in modules.items():
        shared = compare_shares(module.eval(), torch.rand(512, 1, 28, 28), 2, microbatch=16, microbatches=32)
        memory = " and ".join(f"{entry.peak / 1e6:.0f}" for entry in shared.shared.stages)
        print(
            f"{name:<24}{shared.alone.throughput:>14.0f}{shared.shared.throughput:>14.0f}{shared.speedup:>7.2f}"
            f"{shared.equal!s:>7}  by parts; {memory} MB, alone {shared.alone.stages[0].peak / 1e6:.0f}\n    "
            f"{shared.reason}",
            flush=True,
        )
        equal &= shared.equal
    print(f"{LARGE}: {reached:.2f}× of the {LEAST_SPEEDUP}× asked")
    return 0 if reached >= LEAST_SPEEDUP and equal else 1


if __name__ == "__main__":
    sys.exit(main())
