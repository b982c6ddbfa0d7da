"""The ways to compress that an allocation may use, and which steps of a recipe each of them decides.

A *method* is a technique with the settings that all layers share; its dial is what differs from layer to layer. Two
methods may be of one technique: ``prune`` removes channels, and it zeroes weights.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from workbench.editing import dial_values
from workbench.errors import WorkbenchError
from workbench.recipe import Recipe, Step
from workbench.techniques import TECHNIQUES, Cost, Dial

from .budget import Budget


@dataclass(frozen=True)
class Method:
    """One way to compress: ``technique`` with ``settings``, its dial at one of ``levels``, from mild to harsh.

    ``lowers`` are the kinds of budgets it helps to meet.
    """

    name: str
    technique: str
    levels: tuple[float, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    lowers: frozenset[str] = frozenset({"bytes"})

    @property
    def dial(self) -> Dial:
        """The setting that differs from layer to layer."""
        dial = TECHNIQUES[self.technique].dial
        assert dial is not None
        return dial

    @property
    def neutral(self) -> float:
        """The value that leaves a layer as it is."""
        return self.dial.neutral

    @property
    def setting(self) -> str:
        """The dial's name."""
        return self.dial.setting

    @property
    def place(self) -> tuple[int, bool]:
        """Where its step stands among others, by ``place_of``."""
        return _place(self.technique, self.name == "channels")

    def decides(self, step: Step) -> bool:
        """Whether ``step`` is what the method chooses anew; a step that removes other structure is not, and stays."""
        if step.technique != self.technique:
            return False
        return self.technique != "prune" or _removed(step) == ("filter" if self.name == "channels" else "")

    def steps_in(self, recipe: Recipe) -> tuple[Step, ...]:
        """Return the steps of ``recipe`` that the method decides."""
        return tuple(step for step in recipe.steps if self.decides(step))

    def values_in(self, recipe: Recipe, layers: Collection[str]) -> dict[str, float]:
        """Return where the dial stands in ``recipe`` for each layer; of several steps the last that acts on it."""
        found = dict.fromkeys(layers, self.neutral)
        for step in self.steps_in(recipe):
            values = dial_values(Recipe((step,)), self.technique, layers)
            found |= {layer: value.value for layer, value in values.items() if value.value != self.neutral}
        return found

    def held_in(self, recipe: Recipe, layer: str) -> dict[str, Any]:
        """Return all settings that ``layer`` alone has in ``recipe``, empty where the dial's value says as much."""
        own: dict[str, Any] = {}
        for step in self.steps_in(recipe):
            for override in step.overrides:
                if fnmatchcase(layer, override.pattern):
                    own |= override.to_data()
        told = {self.setting, *(name for name, value in self.settings.items() if own.get(name) == value)}
        return own if own.keys() - told else {}

    def taking(self, recipe: Recipe) -> Method:
        """Return the method with the settings, beside its dial, that a person's recipe has of it."""
        steps = self.steps_in(recipe)
        if not steps:
            return self
        fields = TECHNIQUES[self.technique].settings.model_fields
        kept = {
            name: value
            for name, value in steps[0].settings.model_dump(mode="json", exclude_unset=True).items()
            if name != self.setting and name not in self.dial.alone and fields[name].default is not None
        }
        return replace(self, settings={**kept, **self.settings})


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("channels", "prune", (0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75),
               {"granularity": "filter", "scope": "layer"}, frozenset({"bytes", "runtime_bytes", "ms", "macs"})),
        Method("prune", "prune", (0.0, 0.2, 0.35, 0.5, 0.65, 0.8), {"scope": "layer"}),
        Method("factorize", "factorize", (1.0, 0.8, 0.6, 0.45, 0.3, 0.2), {},
               frozenset({"bytes", "runtime_bytes", "ms", "macs"})),
        Method("quantize", "quantize", (32, 8, 6, 5, 4, 3, 2), {}, frozenset({"bytes", "runtime_bytes"})),
        Method("share", "share", (32, 6, 5, 4, 3, 2), {"scope": "layer"}),
    )
}  # fmt: skip
#: What is used unless it is said, by the kind of budget.
USUAL: dict[str, tuple[str, ...]] = {
    "bytes": ("prune", "quantize"),
    "drop": ("prune", "quantize"),
    "runtime_bytes": ("quantize",),
    "ms": ("channels",),
    "macs": ("channels",),
}
#: Methods that exclude each other, and why.
APART: dict[tuple[str, str], str] = {
    ("channels", "prune"): "which weights are the smallest depends on the channels that are left",
    ("quantize", "share"): "either one decides how a weight is stored",
    ("channels", "factorize"): "factors have no channels of their own that other layers could lose",
    ("channels", "share"): "the weights would be clustered anew for every pair of options, which takes too long",
}
#: Levels where channels and bits are chosen together: every combination is measured and costed.
COARSE: dict[str, tuple[float, ...]] = {"channels": (0.0, 0.25, 0.5, 0.75), "quantize": (32, 8, 6, 4, 3, 2)}
_WHAT = {"bytes": "the packed size", "runtime_bytes": "a runtime's file", "ms": "latency", "macs": "MACs"}
_REMOVED = {"filter": "channels", "head": "heads", "layer": "whole layers", "": "weights"}


def place_of(step: Step) -> tuple[int, bool]:
    """Return where a step stands among others: in the order of the techniques, structure before single weights."""
    return _place(step.technique, bool(_removed(step)))


def staying(methods: Sequence[Method], base: Recipe) -> str:
    """Return a sentence on the steps of ``base`` that no method decides although one is of their technique.

    Empty where there are none.
    """
    techniques = {method.technique for method in methods}
    kinds = dict.fromkeys(_REMOVED[_removed(step)] for step in base.steps if step.technique in techniques)
    if not kinds:
        return ""
    return f"What the recipe prunes of {' and '.join(kinds)} stays as it is: all else is found on top of it."


def without_training(base: Recipe) -> tuple[Recipe, str]:
    """Return ``base`` without the steps that train, and a sentence on them, empty where there are none.

    What they learned belongs to the steps before them, each of which a search changes.
    """
    trained = [step for step in base.steps if step.cost is Cost.TRAINED]
    if not trained:
        return base, ""
    names = " and ".join(dict.fromkeys(step.technique for step in trained))
    rest = Recipe(tuple(step for step in base.steps if step not in trained))
    return rest, f"It is searched without {names}, which would have to be trained anew for each recipe: train the best."


def require_methods(names: Collection[str]) -> None:
    """Raise ``WorkbenchError`` where one of ``names`` is no method."""
    for name in names:
        if name not in METHODS:
            raise WorkbenchError(f"There is no technique '{name}' to allocate by; there are {', '.join(METHODS)}.")


def methods_for(names: Sequence[str], budget: Budget, base: Recipe) -> tuple[Method, ...]:
    """Return the methods of these names, the budget's usual ones where empty, with the settings they have in ``base``.

    Raises ``WorkbenchError`` for those that are unknown, do nothing for the budget, or exclude each other.
    """
    names = names or USUAL[budget.kind]
    require_methods(names)
    chosen = [METHODS[name] for name in METHODS if name in names]
    for method in chosen:
        if budget.counted not in method.lowers:
            able = ", ".join(each.name for each in METHODS.values() if budget.counted in each.lowers)
            raise WorkbenchError(f"'{method.name}' does not lower {_WHAT[budget.counted]}; choose from {able}.")
    for pair, why in APART.items():
        if {*pair} <= {method.name for method in chosen}:
            raise WorkbenchError(
                f"'{pair[0]}' and '{pair[1]}' cannot be allocated together, because {why}; choose one of them."
            )
    coarse = {method.name for method in chosen} >= {"channels", "quantize"}
    return tuple((replace(each, levels=COARSE[each.name]) if coarse else each).taking(base) for each in chosen)


def _removed(step: Step) -> str:
    """Return the structure that a step takes away, such as ``filter``; empty where shapes stay as they are."""
    settings: Any = step.settings
    return settings.granularity if step.technique == "prune" and settings.removes else ""


def _place(technique: str, removes: bool) -> tuple[int, bool]:
    return list(TECHNIQUES).index(technique), technique == "prune" and not removes
