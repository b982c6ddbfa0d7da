"""What is tried on an answer: cheap ways, without training, to give back some of what was lost.

BatchNorm recalibrated and biases corrected are steps behind all others; weights rounded by GPTQ instead of to nearest
keep each layer's output. All look at calibration data and at the whole model at once, so that divergences are measured
and added without them, and they are tried on whole recipes; each is kept where it is better on the validation split.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workbench.editing import step_of, with_settings
from workbench.recipe import Recipe
from workbench.techniques import TECHNIQUES
from workbench.techniques.quantize.settings import QuantizeSettings

if TYPE_CHECKING:
    from .testbed import Testbed

#: Steps behind all others: what each is called → the step.
STEPS: dict[str, dict[str, Any]] = {
    "recalibrate": {"recalibrate": {"images": 1000}},
    "correct_bias": {"correct_bias": {}},
}
#: Another rounding of the same bits: what it is called → the settings of ``quantize``.
ROUNDING: dict[str, dict[str, Any]] = {"gptq": {"rounding": "gptq", "images": 512}}


def repairs_for(bed: Testbed, recipe: Recipe) -> tuple[str, ...]:
    """Return the names of the repairs that a model, its data and the steps of ``recipe`` leave to be tried."""
    if "calibration" not in bed.data.splits:
        return ()
    names = []
    if not any(step.technique in STEPS for step in recipe.steps):
        normalized = any(name.endswith("running_mean") for name in bed.subject.tensors)
        names += [name for name in STEPS if name != "recalibrate" or normalized]
    step = step_of(recipe, "quantize")
    settings = step.settings if step else None
    if isinstance(settings, QuantizeSettings) and settings.rounding == "nearest" and settings.kind == "integer":
        names += ROUNDING
    return tuple(names)


def repaired(recipe: Recipe, name: str) -> Recipe:
    """Return ``recipe`` with a repair."""
    if name in ROUNDING:
        return with_settings(recipe, "quantize", ROUNDING[name])
    order = list(TECHNIQUES)
    steps = recipe.to_data()
    at = sum(order.index(step.technique) <= order.index(name) for step in recipe.steps)
    return Recipe.parse([*steps[:at], STEPS[name], *steps[at:]])
