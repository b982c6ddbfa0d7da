"""What is tried behind an answer: cheap steps that give back some of what was lost, without training.

Divergences are measured and added without them. They are tried on whole recipes only, since they look at all of a
model at once, and each is kept where it is better on the validation split.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workbench.recipe import Recipe
from workbench.techniques import TECHNIQUES

if TYPE_CHECKING:
    from .testbed import Testbed

#: What each is called → the step.
STEPS: dict[str, dict[str, Any]] = {
    "recalibrate": {"recalibrate": {"images": 1000}},
    "correct_bias": {"correct_bias": {}},
}
#: Bytes that a repair takes in the archive's header, at most about.
BYTES = 32


def repairs_for(bed: Testbed, base: Recipe) -> tuple[str, ...]:
    """Return the names of the repairs that a model, its data and the steps it has already leave to be tried."""
    if "calibration" not in bed.data.splits or any(step.technique in STEPS for step in base.steps):
        return ()
    normalized = any(name.endswith("running_mean") for name in bed.subject.tensors)
    return tuple(name for name in STEPS if name != "recalibrate" or normalized)


def repaired(recipe: Recipe, name: str) -> Recipe:
    """Return ``recipe`` with a repair where its step belongs."""
    order = list(TECHNIQUES)
    steps = recipe.to_data()
    at = sum(order.index(step.technique) <= order.index(name) for step in recipe.steps)
    return Recipe.parse([*steps[:at], STEPS[name], *steps[at:]])
