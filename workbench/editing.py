"""Recipes changed a little: functions from a recipe to a recipe, for sliders, tables and searches.

Every edit keeps what it does not name: other steps, layer patterns, other layers' own settings. What a
person built in YAML survives a moved slider. Each technique's ``Dial`` says which setting is meant by
"how hard": ``ratio`` for pruning, ``bits`` for quantization.
"""

from __future__ import annotations

import glob
import itertools
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from workbench.errors import WorkbenchError
from workbench.recipe import Recipe, Step
from workbench.techniques import TECHNIQUES, Cost, Dial


class DialValue(NamedTuple):
    """Where the dial stands for one layer, and whether the layer alone was given that."""

    value: float
    own: bool


def step_of(recipe: Recipe, technique: str) -> Step | None:
    """Return the recipe's first step of ``technique``, which is the one that edits change."""
    return next((step for step in recipe.steps if step.technique == technique), None)


def stored_by(recipe: Recipe) -> str:
    """Return the technique that says in how many bits weights are stored: ``share`` by codebook, else ``quantize``."""
    share, grid = step_of(recipe, "share"), step_of(recipe, "quantize")
    neutral = TECHNIQUES["quantize"].dial
    idle = grid is None or (neutral is not None and getattr(grid.settings, neutral.setting) == neutral.neutral)
    return "share" if share is not None and idle else "quantize"


def with_settings(recipe: Recipe, technique: str, settings: Mapping[str, Any]) -> Recipe:
    """Return the recipe with these settings of ``technique`` for all its layers; the step is added if missing.

    Settings at their default are left out, except the dial's.

    >>> with_settings(Recipe(), "prune", {"ratio": 0.4, "scope": "global"}).to_data()
    [{'prune': {'ratio': 0.4}}]
    """
    kind = TECHNIQUES[technique].settings
    return _edited(recipe, technique, lambda fields, _: _tidy(technique, kind.merged(fields, settings)))


def without(recipe: Recipe, technique: str) -> Recipe:
    """Return the recipe without its steps of ``technique``."""
    return Recipe(tuple(step for step in recipe.steps if step.technique != technique))


def released(recipe: Recipe, technique: str) -> Recipe:
    """Return the recipe with ``technique`` at its neutral value; layers with a value of their own keep it.

    A step that would do nothing is dropped.
    """
    step = step_of(recipe, technique)
    if step is None:
        return recipe
    dial = TECHNIQUES[technique].dial
    if dial is None or not any(dial.setting in override.changed for override in step.overrides):
        return without(recipe, technique)
    return with_settings(recipe, technique, {dial.setting: dial.neutral})


def layer_setting(recipe: Recipe, technique: str, layer: str) -> float:
    """Return the dial's value for ``layer``; the neutral one where no step acts on it."""
    dial = _dial(technique)
    step = step_of(recipe, technique)
    if step is None or not any(fnmatchcase(layer, pattern) for pattern in step.layers):
        return dial.neutral
    return float(getattr(step.settings_of(layer), dial.setting))


def own_setting(recipe: Recipe, technique: str, layer: str) -> float | None:
    """Return the dial's value that ``layer`` alone was given, or None where it follows the others."""
    dial = _dial(technique)
    step = step_of(recipe, technique)
    name = glob.escape(layer)
    for override in step.overrides if step else ():
        if override.pattern == name and dial.setting in override.changed:
            return float(getattr(override.settings, dial.setting))
    return None


def dial_values(recipe: Recipe, technique: str, layers: Iterable[str]) -> dict[str, DialValue]:
    """Return ``layer_setting`` of every layer and whether it is its own; quick for hundreds of them.

    >>> recipe = Recipe.parse("- prune: {ratio: 0.6, overrides: {fc: {ratio: 0.2}}}")
    >>> dial_values(recipe, "prune", ["conv", "fc"])
    {'conv': DialValue(value=0.6, own=False), 'fc': DialValue(value=0.2, own=True)}
    """
    dial, step, names = _dial(technique), step_of(recipe, technique), tuple(layers)
    if step is None:
        return dict.fromkeys(names, DialValue(dial.neutral, False))
    if not step.overrides and step.layers == ("*",):
        return dict.fromkeys(names, DialValue(float(getattr(step.settings, dial.setting)), False))
    own = {override.pattern: override for override in step.overrides if dial.setting in override.changed}
    # where every override names one layer, none needs to be matched against every other
    alone = {override.pattern for override in step.overrides} <= {glob.escape(name) for name in names}
    found = {}
    for name in names:
        override = own.get(glob.escape(name))
        if not alone or step.layers != ("*",):
            found[name] = DialValue(layer_setting(recipe, technique, name), override is not None)
        else:
            settings = override.settings if override else step.settings
            found[name] = DialValue(float(getattr(settings, dial.setting)), override is not None)
    return found


def with_layer(recipe: Recipe, technique: str, layers: Iterable[str], value: float) -> Recipe:
    """Return the recipe with the dial at ``value`` for each of ``layers`` alone.

    >>> with_layer(Recipe.parse("- prune: {ratio: 0.6}"), "prune", ["fc"], 0.2).to_data()
    [{'prune': {'ratio': 0.6, 'overrides': {'fc': {'scope': 'layer', 'ratio': 0.2}}}}]
    """
    return with_layers(recipe, technique, dict.fromkeys(layers, value))


def with_layers(recipe: Recipe, technique: str, values: Mapping[str, float]) -> Recipe:
    """Return the recipe with the dial at its own value for each layer that ``values`` names."""
    dial = _dial(technique)
    names = tuple(values)
    if not names:
        return recipe

    def edit(fields: dict[str, Any], step: Step | None) -> dict[str, Any]:
        if step is None:
            fields[dial.setting] = _plain(dial.neutral)
        # what must be unset for this layer is only said where it is set for all
        alone = {key: aim for key, aim in dial.alone.items() if aim is not None or fields.get(key) is not None}
        patterns = step.layers if step else ("*",)
        overlooked = [name for name in names if not any(fnmatchcase(name, pattern) for pattern in patterns)]
        if overlooked:
            fields["layers"] = [*patterns, *map(glob.escape, overlooked)]
        overrides = dict(fields.get("overrides", {}))
        for name in names:
            own = overrides.pop(glob.escape(name), {})
            overrides[glob.escape(name)] = {**own, **alone, dial.setting: _plain(values[name])}
        return {**fields, "overrides": overrides}

    return _edited(recipe, technique, edit)


def without_layers(recipe: Recipe, layers: Iterable[str], technique: str | None = None) -> Recipe:
    """Return the recipe with no settings that ``layers`` alone were given; steps left idle are dropped.

    ``technique``: forget only the settings of this one. A layer that was named only to be given its own value is not
    named any more.
    """
    names = {glob.escape(layer) for layer in layers}
    steps: list[Any] = []
    for step, data in zip(recipe.steps, recipe.to_data(), strict=True):
        kept = {override.pattern: override.to_data() for override in step.overrides if override.pattern not in names}
        if technique not in (None, step.technique) or len(kept) == len(step.overrides):
            steps.append(data)
        elif kept or not step.definition.leaves(step.settings):
            rest = {key: value for key, value in data[step.technique].items() if key != "overrides"}
            if added := names & _added(step):
                rest["layers"] = [pattern for pattern in step.layers if pattern not in added]
            steps.append({step.technique: {**rest, **({"overrides": kept} if kept else {})}})
    return Recipe.parse(steps)


def _added(step: Step) -> set[str]:
    """Return the names that ``with_layers`` put behind a step's patterns: the last ones, as far as each has a value.

    Of names alone, without a pattern such as ``conv*``, nobody can tell who wrote which: they are taken for a person's.
    """
    dial = step.definition.dial
    given = {override.pattern for override in step.overrides if dial and dial.setting in override.changed}
    added = set(itertools.takewhile(given.__contains__, reversed(step.layers)))
    return added if any(_is_pattern(name) for name in step.layers if name not in added) else set()


def _is_pattern(name: str) -> bool:
    return glob.escape(_unescaped(name)) != name


def _unescaped(name: str) -> str:
    for special in "*?[":
        name = name.replace(f"[{special}]", special)
    return name


def without_stale_training(before: Recipe, after: Recipe) -> tuple[Recipe, tuple[Step, ...]]:
    """Return ``after``, an edit of ``before``, without the trained steps that the edit made stale, and those steps.

    What a step learned belongs to the steps before it: once one of them is changed, it has to be trained again.
    Trained steps that ``before`` has not are new, and stay.
    """
    kept: list[Step] = []
    stale: list[Step] = []
    same = True
    for place, step in enumerate(after.steps):
        same = same and place < len(before.steps) and before.steps[place] == step
        gone = not same and step.cost is Cost.TRAINED and step in before.steps
        (stale if gone else kept).append(step)
    return Recipe(tuple(kept)), tuple(stale)


def _edited(recipe: Recipe, technique: str, edit: Any) -> Recipe:
    """Return the recipe with the fields of one step changed by ``edit(fields, step)``."""
    data = recipe.to_data()
    place = next((at for at, step in enumerate(recipe.steps) if step.technique == technique), None)
    if place is None:
        order = list(TECHNIQUES)
        place = sum(order.index(step.technique) <= order.index(technique) for step in recipe.steps)
        if all(step.cost is Cost.TRAINED for step in recipe.steps[place:]):
            place = len(recipe.steps)  # behind what was trained, which stays valid
        data.insert(place, {technique: edit({}, None)})
    else:
        data[place] = {technique: edit(dict(data[place][technique]), recipe.steps[place])}
    return Recipe.parse(data)


def _tidy(technique: str, fields: dict[str, Any]) -> dict[str, Any]:
    definition = TECHNIQUES[technique]
    kept = {definition.dial.setting} if definition.dial else set()
    known = definition.settings.model_fields

    def is_default(name: str, value: Any) -> bool:
        return name not in kept and name in known and value == known[name].default

    return {name: _plain(value) for name, value in fields.items() if not is_default(name, value)}


def _plain(value: Any) -> Any:
    """Return whole floats as integers: 4 bits, not 4.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _dial(technique: str) -> Dial:
    dial = TECHNIQUES[technique].dial if technique in TECHNIQUES else None
    if dial is None:
        known = ", ".join(name for name, entry in TECHNIQUES.items() if entry.dial)
        raise WorkbenchError(f"'{technique}' has no setting for each layer; those that have one are {known}.")
    return dial
