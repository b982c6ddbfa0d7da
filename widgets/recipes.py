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
            "ratio": range(96),
            "bits": BITS,
            "granularity": ("weight", "filter"),
            "activations": (False, True),
            "recalibrate": (False, True),
            "scope": ("global", "layer"),
            "scheme": ("affine", "symmetric"),
            "per": ("channel", "tensor"),
            "multiple": (1, 2, 4, 8, 16),
        }
        fitting = {name: given[name] for name in allowed if name in given and given[name] in allowed[name]}
        return replace(state, **fitting)

    def to_page(self) -> dict[str, Any]:
        """Return plain data for the page."""
        return asdict(self)


def recipe_from_controls(state: ControlsState) -> Recipe:
    """Return the Recipe the controls stand for; untouched controls give the empty one."""
    from workbench.recipe import Recipe

    return Recipe.parse(steps_from_controls(state))


def steps_from_controls(state: ControlsState) -> list[dict[str, dict[str, Any]]]:
    """Return the Recipe's steps as plain data; a setting left at its default is left out."""
    steps: list[dict[str, dict[str, Any]]] = []
    if state.ratio:
        filters = state.granularity == "filter"
        steps.append(
            {"prune": {"ratio": state.ratio / 100} | _changed(state, "granularity", "scope", *["multiple"] * filters)}
        )
    if state.bits < OFF or state.activations:
        steps.append({"quantize": _quantize(state)})
    if state.recalibrate:
        steps.append({"recalibrate": {}})
    return steps


def _quantize(state: ControlsState) -> dict[str, Any]:
    # What enters a layer is quantized together with its weights: with "Bit-width" off they get 8 bits.
    bits = ACTIVATION_BITS if state.bits == OFF else state.bits
    grid = _changed(state, "scheme", "per") if bits <= 8 else {}
    return {"bits": bits} | grid | ({"activations": {"bits": ACTIVATION_BITS}} if state.activations else {})


def _changed(state: ControlsState, *names: str) -> dict[str, Any]:
    return {name: getattr(state, name) for name in names if getattr(state, name) != getattr(ControlsState, name)}


def controls_from_recipe(recipe: Recipe, present: ControlsState | None = None) -> ControlsState | None:
    """Return where the controls must stand to show ``recipe``, or None where they cannot show it.

    What the Recipe leaves open (the scheme where nothing is quantized) stays as in ``present``.
    """
    state = replace(present or ControlsState(), ratio=0, bits=OFF, activations=False, recalibrate=False)
    for step in recipe.steps:
        settings = step.settings.model_dump(mode="json")
        if step.technique == "prune":
            settings["ratio"] = round(100 * settings["ratio"])
            if settings["granularity"] == "weight":
                del settings["multiple"]
        elif step.technique == "quantize":
            settings["activations"] = settings["activations"] is not None
            if settings["bits"] == 16:
                del settings["scheme"], settings["per"]
        elif step.technique == "recalibrate":
            settings = {"recalibrate": True}
        state = ControlsState.from_page(state.to_page() | settings)
    return state if recipe_from_controls(state) == recipe else None
