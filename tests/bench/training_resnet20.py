"""ResNet-20 compressed and won back: unstructured 70 % and 90 %, half the MACs by channels or blocks, 4 and 2 bits.

Trained by distillation from the uncompressed model, one seed, since a run takes long; on the bundled 10,000 training
images unless ``--data fashion_mnist:full`` is given.
Beside each stands the same recipe without training (post-training), with BatchNorm recalibrated.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from typing import Any

from tests.bench.half_macs import RULES
from tests.bench.record import Figure, keep
from tests.bench.training import Bench, tell
from workbench.data.load import load_dataset
from workbench.recipe import Recipe

MODEL = "resnet20"


@dataclass(frozen=True)
class Case:
    """A recipe, the points it may lose when trained, and how it is trained."""

    label: str
    steps: list[dict[str, dict[str, Any]]]
    points: float
    training: dict[str, Any]
    before: tuple[dict[str, dict[str, Any]], ...] = ()

    @property
    def trained(self) -> Recipe:
        """The recipe with its training."""
        return Recipe.parse([*self.before, *self.steps, {"distill": self.training}])

    @property
    def untrained(self) -> Recipe:
        """The same without training."""
        return Recipe.parse([*self.steps, {"recalibrate": {}}])


def quantize(bits: int) -> list[dict[str, dict[str, Any]]]:
    """Return weights in ``bits`` bits with 8-bit activations."""
    return [{"quantize": {"bits": bits, "range": "mse", "activations": {"bits": 8}}}]


#: Channels stay multiples of 16, the width of ONNX Runtime's blocks with AVX-512: with multiples of 8 there, half the
#: MACs saves a quarter of the time.
_HALVED = {"epochs": 3, "learning_rate": 0.1, "batch": 128, "weight_decay": 5e-4, "precision": "bf16"}
CASES = {
    "qat4": Case("4 bit, 8-bit activations", quantize(4), 0.3, {"epochs": 1, "learning_rate": 0.003}),
    "weights70": Case("70 % of weights", [{"prune": {"ratio": 0.7}}], 0.5, {"epochs": 1, "learning_rate": 0.01}),
    "channels": Case(
        "half the MACs by channels", [{"prune": {"granularity": "filter", "macs": 0.5, "multiple": 16}}], 1.0, _HALVED
    ),
    "blocks": Case(
        "half the MACs by the first stage and channels of the last",
        Recipe.parse(RULES["no stage 1, inside 3"]).to_data(), 1.0, _HALVED,
    ),
    "qat2": Case("2 bit, 8-bit activations", quantize(2), 2.0, {"epochs": 1, "learning_rate": 0.01}),
    "weights90": Case(
        "90 % of weights", [{"prune": {"ratio": 0.9}}], 2.0, {"epochs": 2, "learning_rate": 0.02},
        before=({"prune": {"ratio": 0.75}}, {"distill": {"epochs": 1, "learning_rate": 0.02}}),
    ),
}  # fmt: skip


def main() -> int:
    """Print and keep the figures; return 1 where one misses what it must reach."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", default=list(CASES))
    parser.add_argument("--data", default="fashion_mnist")
    options = parser.parse_args()
    data = load_dataset(options.data)
    bench = Bench(MODEL, data)
    figures = []
    for name in options.cases:
        case = CASES[name]
        runs = [bench.run(f"{case.label}, post-training", case.untrained), bench.run(case.label, case.trained)]
        for run in runs:
            tell(run)
        before, after = runs
        figures.append(
            Figure(
                f"{MODEL}, {case.label}, recovered", f"≤ {case.points:g} points lost",
                f"{after.lost:.2f} points lost of {after.dense:.2f} %, {after.ratio:.1f}× smaller "
                f"(post-training {before.lost:.2f} lost)",
                after.lost <= case.points,
            )
        )  # fmt: skip
        keep(f"training_resnet20_{name}", figures[-1:], data=options.data, seeds=[0], seconds=after.seconds, runs=runs)
    return 0 if all(figure.reached for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
