"""What the controls mean: from their state to a Recipe, and back where a Recipe can be shown by them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from workbench.recipe import Recipe

#: "Bit-width" at this position means that weights stay in fp32.
OFF = 32
#: The positions of "Bit-width".
BITS = (1, 2, 3, 4, 5, 6, 7, 8, 16, OFF)
ACTIVATION_BITS = 8


@dataclass(frozen=True)
class ControlsState:
    """Where every control stands; the defaults are those of a model nobody has touched."""

    ratio: int = 0  # per cent
    bits: int = OFF
    granularity: Literal["weight", "filter"] = "weight"
    activations: bool = False
    recalibrate: bool = False
    scope: Literal["global", "layer"] = "global"
    scheme: Literal["affine", "symmetric"] = "affine"
    per: Literal["channel", "tensor"] = "channel"
    multiple: int = 8

    @classmethod
    def from_page(cls, given: Mapping[str, Any]) -> ControlsState:
        """Read what a page sent; values no control can have fall back to the default."""
        state = cls()
        allowed: dict[str, Any] = {
            "ratio": range(96), "bits": BITS, "granularity": ("weight", "filter"), "scope": ("global", "layer"),
            "scheme": ("affine", "symmetric"), "per": ("channel", "tensor"), "multiple": (1, 2, 4, 8, 16),
            "activations": (False, True), "recalibrate": (False, True),
        }  # fmt: skip
        return replace(state, **{name: given[name] for name in allowed if name in given and given[name] in allowed[name]})

    def to_page(self) -> dict[str, Any]:
        """Return plain data for the page."""
        return asdict(self)


def recipe_from_controls(state: ControlsState) -> Recipe:
    """Return the Recipe the controls stand for; untouched controls give the empty one."""
    from workbench.recipe import Recipe

    return Recipe.parse(steps_from_controls(state))


def steps_from_controls(state: ControlsState) -> list[dict[str, dict[str, Any]]]:
    """Return the Recipe's steps as plain data."""
    steps: list[dict[str, dict[str, Any]]] = []
    if state.ratio:
        prune: dict[str, Any] = {"granularity": state.granularity, "scope": state.scope, "ratio": state.ratio / 100}
        steps.append({"prune": prune | ({"multiple": state.multiple} if state.granularity == "filter" else {})})
    if state.bits < OFF or state.activations:
        steps.append({"quantize": _quantize(state)})
    if state.recalibrate:
        steps.append({"recalibrate": {}})
    return steps


def _quantize(state: ControlsState) -> dict[str, Any]:
    # What enters a layer is quantized together with its weights: with "Bit-width" off they get 8 bits.
    bits = ACTIVATION_BITS if state.bits == OFF else state.bits
    settings: dict[str, Any] = {"bits": bits}
    if bits <= 8:
        settings |= {"scheme": state.scheme, "per": state.per}
    if state.activations:
        settings["activations"] = {"bits": ACTIVATION_BITS}
    return settings


def controls_from_recipe(recipe: Recipe, present: ControlsState | None = None) -> ControlsState | None:
    """Return where the controls must stand to show ``recipe``, or None where they cannot show it.

    What the Recipe leaves open (the scheme where nothing is quantized) stays as in ``present``.
    """
    state = replace(present or ControlsState(), ratio=0, bits=OFF, activations=False, recalibrate=False)
    for step in recipe.steps:
        settings = step.settings.model_dump(mode="json")
        if step.technique == "prune":
            settings["ratio"] = round(100 * settings["ratio"])
        elif step.technique == "quantize":
            settings["activations"] = settings["activations"] is not None
        elif step.technique == "recalibrate":
            settings = {"recalibrate": True}
        state = ControlsState.from_page(state.to_page() | settings)
    return state if recipe_from_controls(state) == recipe else None
