"""What may be done to each layer, and the recipe that a choice of it is.

With several methods an option is a value of each one's dial. Layers that must be treated alike, because their channels
go together, are one unit. Where bits are chosen too, the layers of such a unit share them: what a layer costs depends
on its own channels and bits and on the channels that it reads, so that units cost in pairs and the exact answer stays
exact. With bits of its own, a layer of a tied unit would make the cost one of three choices.
"""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING, Any

from workbench.errors import WorkbenchError
from workbench.recipe import Recipe
from workbench.techniques import Cost

from .budget import Budget
from .methods import Method, methods_for, place_of, staying
from .problem import Choice

if TYPE_CHECKING:
    from workbench.subject import Subject

#: A value of each method's dial.
Option = tuple[float, ...]


@dataclass(frozen=True)
class Unit:
    """``layers`` that are compressed alike, by one of ``options``; a locked unit has a single one.

    ``every``: the options that it has when it is not locked.
    """

    name: str
    layers: tuple[str, ...]
    options: tuple[Option, ...]
    locked: bool = False
    every: tuple[Option, ...] = ()


@dataclass(frozen=True)
class Plan:
    """The choice to be made: units, methods in the order of their steps, and the recipe whose other steps stay.

    ``names`` are the model's layers, those that belong to no unit too. ``held``: a method's name and a locked layer →
    all settings that this layer alone was given, where they are more than the dial's value.
    """

    methods: tuple[Method, ...]
    units: tuple[Unit, ...]
    base: Recipe
    names: tuple[str, ...]
    held: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)

    @property
    def options(self) -> tuple[Option, ...]:
        """Every option that a free unit has, from mild to harsh."""
        return next((unit.options for unit in self.units if not unit.locked), ())

    @property
    def locked(self) -> tuple[str, ...]:
        """The names of the locked units."""
        return tuple(unit.name for unit in self.units if unit.locked)

    def unlocked(self) -> Plan:
        """Return the same with no unit locked."""
        units = tuple(Unit(unit.name, unit.layers, unit.every, False, unit.every) for unit in self.units)
        return replace(self, units=units, held={})

    @property
    def neutral(self) -> Option:
        """The option that leaves a unit as it is."""
        return tuple(method.neutral for method in self.methods)

    def recipe(self, choice: Choice) -> Recipe:
        """Return the recipe of one option for each unit; the other steps of ``base`` are in it."""
        chosen = {
            layer: unit.options[option]
            for unit, option in zip(self.units, choice, strict=True)
            for layer in unit.layers
        }
        return self._recipe(chosen, self.base)

    @property
    def ground(self) -> Recipe:
        """What options are costed on top of: the steps of ``base`` that run no image."""
        return Recipe(tuple(step for step in self.base.steps if step.cost in (Cost.LIVE, Cost.FITTED)))

    def alone(self, unit: Unit, option: Option, ground: Recipe | None = None) -> Recipe:
        """Return the recipe in which one unit alone is compressed, on top of ``ground`` or of nothing."""
        return self._recipe(dict.fromkeys(unit.layers, option), ground or Recipe())

    def both(self, first: Unit, one: Option, second: Unit, other: Option, ground: Recipe) -> Recipe:
        """Return the recipe in which two units alone are compressed, on top of ``ground``."""
        chosen = {**dict.fromkeys(first.layers, one), **dict.fromkeys(second.layers, other)}
        return self._recipe(chosen, ground)

    def choice_of(self, option: Option) -> Choice:
        """Return the choice in which every free unit takes ``option``, without what cannot be done to it."""
        return tuple(0 if unit.locked else self._place(unit, option) for unit in self.units)

    @property
    def stays(self) -> str:
        """A sentence on what the recipe prunes in another way than the methods do, empty where that is nothing."""
        return staying(self.methods, self.base)

    @property
    def ties(self) -> str:
        """A sentence on the layers that share what is chosen for them, empty where there are none."""
        tied = [unit.layers for unit in self.units if len(unit.layers) > 1 and not unit.locked]
        if not tied or len(self.methods) == 1:
            return ""
        shown = "; ".join(", ".join(layers) for layers in tied[:3]) + (" and others" if len(tied) > 3 else "")
        return f"Layers whose channels go together take the same ratio and bits: {shown}."

    def _place(self, unit: Unit, option: Option) -> int:
        if option in unit.options:
            return unit.options.index(option)
        able = [{each[dial] for each in unit.options} for dial in range(len(option))]
        parts = zip(option, able, self.neutral, strict=True)
        return unit.options.index(tuple(value if value in known else neutral for value, known, neutral in parts))

    def _recipe(self, chosen: Mapping[str, Option], base: Recipe) -> Recipe:
        steps, places = base.to_data(), [place_of(step) for step in base.steps]
        for number, method in enumerate(self.methods):
            values = {layer: option[number] for layer, option in chosen.items()}
            held = {layer: self.held[method.name, layer] for layer in values if (method.name, layer) in self.held}
            step = _step(method, values, self.names, held)
            if step is not None:
                at = sum(place <= method.place for place in places)
                steps.insert(at, {method.technique: step})
                places.insert(at, method.place)
        return Recipe.parse(steps)


def plan_for(
    subject: Subject,
    budget: Budget,
    methods: Sequence[str] = (),
    base: Recipe | None = None,
    locked: Collection[str] = (),
) -> Plan:
    """Return what is to be decided for ``subject``.

    ``base``'s settings of the methods' techniques are used, its other steps stay. ``locked`` layers keep what they have
    in it. Raises ``WorkbenchError`` for methods that are unknown, do nothing for the budget, or exclude each other, and
    for unknown layers.
    """
    base = Recipe() if base is None else base
    chosen = methods_for(methods, budget, base)
    names = tuple(layer.name for layer in subject.layers)
    require_layers(names, locked)
    options = _options(chosen)
    values = [method.values_in(base, names) for method in chosen]
    units = []
    for name, layers, narrow in _groups(subject, chosen, names):
        every = tuple(each for each in options if not narrow or _keeps_channels(chosen, each))
        held = [layer for layer in layers if layer in locked]
        if held:
            keep = tuple(value[held[0]] for value in values)
            units.append(Unit(name, layers, (keep,), True, every))
        else:
            units.append(Unit(name, layers, every, False, every))
    if not units:
        raise WorkbenchError("No channels of this model can be removed, so there is nothing to allocate.")
    if all(unit.locked for unit in units):
        raise WorkbenchError("Every layer is locked, so there is nothing to allocate: unlock some.")
    own = {(method.name, layer): method.held_in(base, layer) for method in chosen for layer in locked}
    rest = Recipe(tuple(step for step in base.steps if not any(method.decides(step) for method in chosen)))
    return Plan(chosen, tuple(units), rest, names, {place: settings for place, settings in own.items() if settings})


def require_layers(names: Collection[str], locked: Collection[str]) -> None:
    """Raise ``WorkbenchError`` where a ``locked`` layer is none of ``names``."""
    for name in locked:
        if name not in names:
            raise WorkbenchError(f"There is no layer '{name}' to lock; the first ones are {', '.join([*names][:6])}.")


def _options(methods: Sequence[Method]) -> tuple[Option, ...]:
    """Return every combination of the methods' levels that makes sense, from mild to harsh.

    Weights that are stored as they are, in fp32, are pruned only where nothing else makes them smaller.
    """
    combined = list(product(*(method.levels for method in methods)))
    if len(methods) == 1:
        return tuple(combined)
    store = next((place for place, method in enumerate(methods) if method.name in ("quantize", "share")), None)
    neutral = tuple(method.neutral for method in methods)
    if store is None:
        return tuple(combined)
    return tuple(each for each in combined if each[store] != methods[store].neutral or each == neutral)


def _keeps_channels(methods: Sequence[Method], option: Option) -> bool:
    return all(
        value == method.neutral for method, value in zip(methods, option, strict=True) if method.name == "channels"
    )


def _groups(
    subject: Subject, methods: Sequence[Method], names: tuple[str, ...]
) -> list[tuple[str, tuple[str, ...], bool]]:
    """Return the units' names and layers: single ones, or those whose channels go together.

    With channels and another method, layers whose channels must stay follow, marked as such.
    """
    if all(method.name != "channels" for method in methods):
        return [(name, (name,), False) for name in names]
    found = []
    for group in subject.channels.groups:
        makers = {member.layer for member in group.producers}
        layers = tuple(name for name in names if name in makers)
        if layers:
            found.append((layers[0], layers, False))
    if found and len(methods) > 1:
        tied = {layer for _, layers, _ in found for layer in layers}
        found += [(name, (name,), True) for name in names if name not in tied]
    return found


def _step(
    method: Method, values: Mapping[str, float], every: Collection[str], held: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any] | None:
    """Return a step's fields: the commonest value that does anything for all layers, and an override for others.

    ``held`` are all settings of layers that keep them, None is returned where nothing is done to any layer.
    """
    used = [value for layer, value in values.items() if value != method.neutral and layer not in held]
    if not used and not held:
        return None
    usual = Counter(used).most_common(1)[0][0] if used else method.neutral
    whole = len(values) == len(every)
    fields: dict[str, Any] = {**method.settings, method.setting: _plain(usual)}
    touched = [layer for layer, value in values.items() if value != method.neutral or layer in held]
    if not whole:
        fields["layers"] = [glob.escape(layer) for layer in touched]
    overrides = {
        glob.escape(layer): held.get(layer) or {method.setting: _plain(values[layer])}
        for layer in (values if whole else touched)
        if values[layer] != usual or layer in held
    }
    return {**fields, "overrides": overrides} if overrides else fields


def _plain(value: float) -> float | int:
    return int(value) if float(value).is_integer() and value >= 1 else value
