"""A pipeline of two processes, a core each, against one process on one core: images a second.

A ResNet-20 of four times the width and the zoo's MobileNetV2 are large enough for what is handed over to
weigh little; LeNet-5 is not, and the reason says so.
"""

from __future__ import annotations

import sys

import torch

from workbench.deploy.pipeline.compare import compare_pipeline
from workbench.models.zoo import ARCHITECTURES
from workbench.models.zoo.resnet import ResNet20

LEAST_SPEEDUP = 1.5
LARGE = "resnet20 of width 64"


def main() -> int:
    """Print a row a model; return 1 where the large one gains too little."""
    torch.manual_seed(0)
    modules = {
        LARGE: ResNet20(width=64), "mobilenetv2": ARCHITECTURES["mobilenetv2"](), "lenet5": ARCHITECTURES["lenet5"](),
    }  # fmt: skip
    print(f"{'model':<24}{'one, images/s':>14}{'two, images/s':>14}{'ratio':>7}{'equal':>7}  stages, ms a microbatch")
    reached = 0.0
    for name, module in modules.items():
        found = compare_pipeline(module.eval(), torch.rand(512, 1, 28, 28), 2, microbatch=16, microbatches=32)
        stages = " + ".join(f"{ms:.1f}" for ms in found.stage_ms)
        print(
            f"{name:<24}{found.alone.throughput:>14.0f}{found.pipeline.throughput:>14.0f}{found.speedup:>7.2f}"
            f"{found.equal!s:>7}  {stages}\n    {found.reason}",
            flush=True,
        )
        if name == LARGE:
            reached = found.speedup
    print(f"{LARGE}: {reached:.2f}× of the {LEAST_SPEEDUP}× asked")
    return 0 if reached >= LEAST_SPEEDUP else 1


if __name__ == "__main__":
    sys.exit(main())
