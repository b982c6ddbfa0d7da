"""What the controls mean: from a moved control to an edit of the recipe, and from a recipe to where they stand.

The controls show the first step of each technique. An edit changes what was touched and nothing else:
other steps, layer patterns and layers' own settings stay as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, get_args

from workbench.techniques import TECHNIQUES

if TYPE_CHECKING:
    from workbench.recipe import Recipe, Step
    from workbench.techniques.base import Settings

#: "Bit-width" at this position means that weights stay in fp32.
OFF = 32
#: The positions of "Bit-width".
BITS = (1, 2, 3, 4, 5, 6, 7, 8, 16, OFF)
ACTIVATION_BITS = 8
#: The settings that have a control of their own; the others are "advanced".
MAIN = {"prune": ("ratio", "granularity"), "quantize": ("bits", "activations.bits"), "recalibrate": ()}
#: What "Bit-width" sets: the integers of a uniform grid, or the codes of a codebook of shared weights.
METHODS = tuple(name for name in ("quantize", "share") if name in TECHNIQUES)
#: The most bits a codebook's codes have.
CODE_BITS = 8


def granularities() -> tuple[str, ...]:
    """Return what pruning can remove at once, from single weights up."""
    return get_args(TECHNIQUES["prune"].settings.model_fields["granularity"].annotation)


@dataclass(frozen=True)
class ControlsState:
    """Where every control stands; the defaults are those of a model nobody has touched.

    ``ratio`` is in per cent; ``method`` is one of ``METHODS``.
    ``advanced`` maps a technique to its other settings, where they are not at
    their default; they are remembered while the technique is off.
    """

    ratio: float = 0
    bits: int = OFF
    method: str = "quantize"
    granularity: str = "weight"
    activations: bool = False
    recalibrate: bool = False
    advanced: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def from_page(cls, given: Mapping[str, Any]) -> ControlsState:
        """Read what a page sent; values no control can have fall back to the default."""
        tests: dict[str, Any] = {
            "ratio": lambda value: isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 100,
            "bits": lambda value: isinstance(value, int) and value in BITS,
            "method": lambda value: value in METHODS,
            "granularity": lambda value: value in granularities(),
            "activations": lambda value: isinstance(value, bool),
            "recalibrate": lambda value: isinstance(value, bool),
            "advanced": lambda value: (
                isinstance(value, dict) and all(isinstance(item, dict) for item in value.values())
            ),
        }
        return cls(**{name: given[name] for name, fits in tests.items() if name in given and fits(given[name])})

    def tidied(self) -> ControlsState:
        """Return the same without advanced settings that are at their default."""
        advanced = {
            technique: {name: value for name, value in settings.items() if value != _default(technique, name)}
            for technique, settings in self.advanced.items()
        }
        return replace(self, advanced={technique: settings for technique, settings in advanced.items() if settings})

    def to_page(self) -> dict[str, Any]:
        """Return plain data for the page."""
        return asdict(self)


def controls_from_recipe(recipe: Recipe, present: ControlsState | None = None) -> ControlsState:
    """Return where the controls must stand to show ``recipe``.

    What the recipe leaves open (the scheme where nothing is quantized) stays as in ``present``.
    """
    from workbench.editing import step_of, stored_by

    present = present or ControlsState()
    advanced = {technique: dict(settings) for technique, settings in present.advanced.items()}
    shown: dict[str, Any] = {"ratio": 0, "bits": OFF, "activations": False, "recalibrate": False}
    for technique in TECHNIQUES:
        step = step_of(recipe, technique)
        if step is None:
            continue
        settings = step.settings.model_dump(mode="json")
        advanced[technique] = _advanced(step, MAIN.get(technique, ()))
        if technique == "prune":
            by_ratio = settings["threshold"] is None and settings["macs"] is None
            ratio = round(100 * settings["ratio"], 4) if by_ratio else present.ratio or 100 * settings["ratio"]
            shown |= {"ratio": ratio, "granularity": settings["granularity"]}
        elif technique == "quantize":
            shown |= {"activations": settings["activations"] is not None, "bits": settings["bits"]}
        elif technique == "recalibrate":
            shown["recalibrate"] = True
    if recipe:
        shown["method"] = stored_by(recipe)
    if shown.get("method") == "share" and (share := step_of(recipe, "share")) is not None:
        shown["bits"] = share.settings.model_dump()["bits"]
    return replace(present, **shown, advanced=advanced)


def further(recipe: Recipe, state: ControlsState) -> tuple[str, ...]:
    """Return the techniques of ``recipe`` that no slider and no switch stands for, in its order."""
    shown = {*MAIN, state.method}
    return tuple(dict.fromkeys(step.technique for step in recipe.steps if step.technique not in shown))


def unshown(recipe: Recipe) -> str:
    """Return a sentence on what of ``recipe`` the controls don't show, or an empty one."""
    hidden = [
        step
        for place, step in enumerate(recipe.steps)
        if step.technique in {earlier.technique for earlier in recipe.steps[:place]}
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

    Names are the fields of ``ControlsState``; ``advanced.TECHNIQUE.SETTING`` for one advanced setting. Settings
    that they rule out go back to their default; of two that rule each other out, that named later stays.
    """
    from workbench.editing import released, step_of, with_settings, without

    names = dict.fromkeys(touched)
    if names.keys() & {"ratio", "granularity"}:
        if state.ratio:
            recipe = with_settings(recipe, "prune", _prune(state, step_of(recipe, "prune"), names.keys()))
        else:
            recipe = released(recipe, "prune")
            if "granularity" in names and step_of(recipe, "prune"):
                recipe = with_settings(recipe, "prune", {"granularity": state.granularity})
    if names.keys() & {"bits", "activations", "method"}:
        recipe = _with_bits(recipe, state)
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


def _with_bits(recipe: Recipe, state: ControlsState) -> Recipe:
    from workbench.editing import released, step_of, with_settings, without

    share = state.method == "share" and state.bits <= CODE_BITS
    grid = replace(state, bits=OFF) if state.method == "share" else state
    if grid.bits == OFF and not grid.activations:
        if (step := step_of(recipe, "quantize")) and step.settings.model_dump().get("activations"):
            recipe = with_settings(recipe, "quantize", {"activations": None})
        recipe = without(recipe, "quantize") if share else released(recipe, "quantize")
    else:
        settings = _quantize(grid, step_of(recipe, "quantize"))
        recipe = with_settings(recipe, "quantize", {**settings, **({"bits": OFF, "format": None} if share else {})})
    if share:
        remembered = {} if step_of(recipe, "share") else _unflat(state.advanced.get("share", {}))
        return with_settings(recipe, "share", {**remembered, "bits": state.bits})
    return without(recipe, "share") if "share" in METHODS else recipe


def _prune(state: ControlsState, step: Step | None, names: Collection[str]) -> dict[str, Any]:
    settings = {"ratio": round(state.ratio / 100, 6), "granularity": state.granularity}
    if step is None:
        given = TECHNIQUES["prune"].settings.merged(_unflat(state.advanced.get("prune", {})), settings)
    else:
        given = {name: value for name, value in settings.items() if name in names}
    return _fitting("prune", given, step)


def _fitting(technique: str, given: Mapping[str, Any], step: Step | None) -> dict[str, Any]:
    """Return ``given`` with the settings that it rules out put back to their default."""
    definition = TECHNIQUES[technique]
    kind, before = definition.settings, step.settings.model_dump() if step else {}
    fitted = {**given}
    for name, (other, options) in kind.choices.items():
        default = kind.model_fields[name].default
        present = {**before, **fitted}
        allowed = options.get(present.get(other, kind.model_fields[other].default), (default,))
        if present.get(name, default) not in allowed:
            fitted[name] = default if default in allowed else allowed[0]
    if technique == "prune" and before.get("criterion") == "obs" != fitted.get("criterion", "obs"):
        fitted.setdefault("scope", kind.model_fields["scope"].default)
    dial = definition.dial.setting if definition.dial else ""
    return {**_without_idle(kind, kind.merged(before, fitted), fitted, dial), **fitted}


def _without_idle(
    kind: type[Settings], present: Mapping[str, Any], given: Collection[str], kept: str = ""
) -> dict[str, Any]:
    """Return the defaults of the settings that change nothing beside the others; those in ``given`` stay."""
    return {
        name: kind.model_fields[name].default
        for name in kind.when
        if name not in given and name != kept and name in present and kind.hindrance(name, present)
    }


def _quantize(state: ControlsState, step: Step | None) -> dict[str, Any]:
    from workbench.techniques.quantize.settings import fitting_bits

    settings = _unflat(state.advanced.get("quantize", {}) if step is None else {})
    present = step.settings.model_dump() if step is not None else settings
    activations = present.get("activations") or settings.get("activations") or {}
    # What enters a layer is quantized together with its weights: with "Bit-width" off they get 8 bits.
    bits = ACTIVATION_BITS if state.bits == OFF and state.activations else state.bits
    form = present.get("format")
    fitting = {"format": form if fitting_bits(form, bits) == bits else None}
    inputs = {"bits": ACTIVATION_BITS, **activations} if state.activations else None
    return _fitting("quantize", {**settings, **fitting, "bits": bits, "activations": inputs}, step)


def _with_advanced(recipe: Recipe, state: ControlsState, names: Iterable[str]) -> Recipe:
    from workbench.editing import step_of, with_settings

    changed: dict[str, dict[str, Any]] = {}
    for name in names:
        kind, _, rest = name.partition(".")
        technique, _, setting = rest.partition(".")
        step = step_of(recipe, technique) if kind == "advanced" else None
        if step is not None:
            given = _given(step, setting, state.advanced.get(technique, {}), changed.get(technique, {}))
            changed[technique] = step.definition.settings.merged(changed.get(technique, {}), given)
    for technique, given in changed.items():
        recipe = with_settings(recipe, technique, _fitting(technique, given, step_of(recipe, technique)))
    return recipe


def _given(step: Step, setting: str, advanced: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """Return what one advanced setting, dotted for nested ones, changes of the step."""
    from workbench.techniques.quantize.settings import fitting_bits

    head, _, inner = setting.partition(".")
    value = advanced.get(setting)
    if inner:
        present = changed.get(head, step.settings.model_dump().get(head))
        if present is None:
            return {}
        kind = type(getattr(step.settings, head))
        value = {**present, inner: value}
        value |= _without_idle(kind, value, (inner,))
    if (step.technique, setting) == ("quantize", "format"):
        return {head: value, "bits": fitting_bits(value, step.settings.model_dump()["bits"])}
    return {head: value}


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


def _default(technique: str, setting: str) -> Any:
    """Return the default of a setting, dotted for nested ones."""
    kind = TECHNIQUES[technique].settings
    *heads, name = setting.split(".")
    for head in heads:
        kind = get_args(kind.model_fields[head].annotation)[0]
    return kind.model_fields[name].default


def _unflat(settings: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in settings.items():
        head, _, inner = name.partition(".")
        if inner:
            nested.setdefault(head, {})[inner] = value
        else:
            nested[name] = value
    return nested
