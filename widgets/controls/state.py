"""What the controls mean: from a moved control to an edit of the recipe, and from a recipe to where they stand.

The controls show the first step of each technique they know. An edit changes what was touched and
nothing else: other steps, layer patterns and layers' own settings stay as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from workbench.recipe import Recipe, Step

#: "Bit-width" at this position means that weights stay in fp32.
OFF = 32
#: The positions of "Bit-width".
BITS = (1, 2, 3, 4, 5, 6, 7, 8, 16, OFF)
ACTIVATION_BITS = 8
#: The settings that have a control of their own; the others are "advanced".
MAIN = {"prune": ("ratio", "granularity"), "quantize": ("bits", "activations.bits"), "recalibrate": ()}

Granularity = Literal["weight", "filter"]


@dataclass(frozen=True)
class ControlsState:
    """Where every control stands; the defaults are those of a model nobody has touched.

    ``ratio`` is in per cent. ``advanced`` maps a technique to its other settings, where they are not at
    their default; they are remembered while the technique is off.
    """

    ratio: float = 0
    bits: int = OFF
    granularity: Granularity = "weight"
    activations: bool = False
    recalibrate: bool = False
    advanced: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def from_page(cls, given: Mapping[str, Any]) -> ControlsState:
        """Read what a page sent; values no control can have fall back to the default."""
        tests: dict[str, Any] = {
            "ratio": lambda value: isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 100,
            "bits": lambda value: isinstance(value, int) and value in BITS,
            "granularity": lambda value: value in ("weight", "filter"),
            "activations": lambda value: isinstance(value, bool),
            "recalibrate": lambda value: isinstance(value, bool),
            "advanced": lambda value: (
                isinstance(value, dict) and all(isinstance(item, dict) for item in value.values())
            ),
        }
        return cls(**{name: given[name] for name, fits in tests.items() if name in given and fits(given[name])})

    def to_page(self) -> dict[str, Any]:
        """Return plain data for the page."""
        return asdict(self)


def controls_from_recipe(recipe: Recipe, present: ControlsState | None = None) -> ControlsState:
    """Return where the controls must stand to show ``recipe``.

    What the recipe leaves open (the scheme where nothing is quantized) stays as in ``present``.
    """
    from workbench.editing import step_of

    present = present or ControlsState()
    advanced = {technique: dict(settings) for technique, settings in present.advanced.items()}
    shown: dict[str, Any] = {"ratio": 0, "bits": OFF, "activations": False, "recalibrate": False}
    for technique, main in MAIN.items():
        step = step_of(recipe, technique)
        if step is None:
            continue
        settings = step.settings.model_dump(mode="json")
        advanced[technique] = _advanced(step, main)
        if technique == "prune":
            shown |= {"ratio": round(100 * settings["ratio"], 4), "granularity": settings["granularity"]}
        elif technique == "quantize":
            shown |= {"bits": settings["bits"], "activations": settings["activations"] is not None}
        else:
            shown["recalibrate"] = True
    return replace(present, **shown, advanced=advanced)


def unshown(recipe: Recipe) -> str:
    """Return a sentence on what of ``recipe`` the controls don't show, or an empty one."""
    hidden = [
        step
        for place, step in enumerate(recipe.steps)
        if step.technique not in MAIN or step.technique in {earlier.technique for earlier in recipe.steps[:place]}
    ]
    own = len({override.pattern for step in recipe.steps for override in step.overrides})
    parts = []
    if own:
        parts.append("One layer has settings of its own." if own == 1 else f"{own} layers have settings of their own.")
    if hidden or any(step.layers != ("*",) for step in recipe.steps):
        parts.append("The recipe has more than the controls show; it is kept.")
    return " ".join(parts)


def edited(recipe: Recipe, state: ControlsState, touched: Iterable[str]) -> Recipe:
    """Return ``recipe`` with the controls named in ``touched`` put where ``state`` has them.

    Names are the fields of ``ControlsState``; ``advanced.TECHNIQUE.SETTING`` for one advanced setting.
    """
    from workbench.editing import released, step_of, with_settings, without

    names = set(touched)
    if names & {"ratio", "granularity"}:
        if state.ratio:
            recipe = with_settings(recipe, "prune", _prune(state, step_of(recipe, "prune"), names))
        else:
            recipe = released(recipe, "prune")
            if "granularity" in names and step_of(recipe, "prune"):
                recipe = with_settings(recipe, "prune", {"granularity": state.granularity})
    if names & {"bits", "activations"}:
        if state.bits == OFF and not state.activations:
            if (step := step_of(recipe, "quantize")) and step.settings.model_dump().get("activations"):
                recipe = with_settings(recipe, "quantize", {"activations": None})
            recipe = released(recipe, "quantize")
        else:
            recipe = with_settings(recipe, "quantize", _quantize(state, step_of(recipe, "quantize")))
    if "recalibrate" in names:
        recipe = without(recipe, "recalibrate")
        if state.recalibrate:
            recipe = with_settings(recipe, "recalibrate", state.advanced.get("recalibrate", {}))
    return _with_advanced(recipe, state, names)


def keeping_locked(recipe: Recipe, before: Recipe, locked: Collection[str]) -> Recipe:
    """Return ``recipe`` with the own settings that locked layers had in ``before``."""
    from workbench.editing import own_setting, with_layer
    from workbench.techniques import TECHNIQUES

    for technique, definition in TECHNIQUES.items():
        for layer in sorted(locked) if definition.dial else ():
            value = own_setting(before, technique, layer)
            if value is not None:
                recipe = with_layer(recipe, technique, [layer], value)
    return recipe


def _prune(state: ControlsState, step: Step | None, names: set[str]) -> dict[str, Any]:
    settings = {"ratio": round(state.ratio / 100, 6), "granularity": state.granularity}
    if step is None:
        return {**state.advanced.get("prune", {}), **settings}
    return {name: value for name, value in settings.items() if name in names}


def _quantize(state: ControlsState, step: Step | None) -> dict[str, Any]:
    settings = _unflat(state.advanced.get("quantize", {}) if step is None else {})
    present = step.settings.model_dump() if step is not None else settings
    activations = present.get("activations") or settings.get("activations") or {}
    # What enters a layer is quantized together with its weights: with "Bit-width" off they get 8 bits.
    bits = ACTIVATION_BITS if state.bits == OFF and state.activations else state.bits
    fitting = {} if bits == 16 else {"format": None}
    inputs = {"bits": ACTIVATION_BITS, **activations} if state.activations else None
    return {**settings, **fitting, "bits": bits, "activations": inputs}


def _with_advanced(recipe: Recipe, state: ControlsState, names: set[str]) -> Recipe:
    from workbench.editing import step_of, with_settings

    for name in sorted(names):
        kind, _, rest = name.partition(".")
        technique, _, setting = rest.partition(".")
        step = step_of(recipe, technique) if kind == "advanced" else None
        if step is None:
            continue
        head, _, inner = setting.partition(".")
        value = state.advanced.get(technique, {}).get(setting)
        if inner:
            present = step.settings.model_dump().get(head)
            if present is None:
                continue
            value = {**present, inner: value}
        recipe = with_settings(recipe, technique, {head: value})
    return recipe


def _advanced(step: Step, main: Collection[str]) -> dict[str, Any]:
    """Return the step's settings that have no control of their own and are not at their default, flat."""
    settings = step.settings.model_dump(mode="json", exclude_defaults=True)
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": item for inner, item in value.items()}
        else:
            flat[name] = value
    return {name: value for name, value in flat.items() if name not in main}


def _unflat(settings: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in settings.items():
        head, _, inner = name.partition(".")
        if inner:
            nested.setdefault(head, {})[inner] = value
        else:
            nested[name] = value
    return nested
