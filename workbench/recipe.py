"""A recipe: the ordered steps that turn a model into a smaller one, as plain data.

Parsing is the edge where input is checked; from there on a Recipe is a clean value: frozen, equal by
content, with a stable hash. Every message names the step, the field, what was given and what is allowed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from os import PathLike
from typing import Any

import yaml
from pydantic import ValidationError

from workbench.errors import WorkbenchError
from workbench.techniques import TECHNIQUES
from workbench.techniques.base import CALIBRATION, Cost, Settings, Technique
from workbench.techniques.trained import TrainingSettings
from workbench.techniques.trained.base import teacher_file


class RecipeError(WorkbenchError):
    """A recipe that can't be read or does not fit the model."""


@dataclass(frozen=True)
class Override:
    """Changed settings for the layers that ``pattern`` matches: the fields ``changed`` of ``settings``."""

    pattern: str
    settings: Settings
    changed: tuple[str, ...]

    def to_data(self) -> dict[str, Any]:
        """Return the changed settings as plain data."""
        return self.settings.model_dump(mode="json", include=set(self.changed))


@dataclass(frozen=True)
class Step:
    """One technique with its settings, and the layers it acts on.

    ``layers`` are glob patterns over layer names. ``overrides`` are merged in order, so that the last
    match wins.
    """

    technique: str
    settings: Settings
    layers: tuple[str, ...] = ("*",)
    overrides: tuple[Override, ...] = ()

    @property
    def definition(self) -> Technique[Any]:
        """The registered technique."""
        return TECHNIQUES[self.technique]

    @property
    def everything(self) -> tuple[Settings, ...]:
        """The step's settings, and those of its overrides."""
        return (self.settings, *(override.settings for override in self.overrides))

    @property
    def cost(self) -> Cost:
        """The dearest cost over the step's settings."""
        order = list(Cost)
        return max((self.definition.cost(settings) for settings in self.everything), key=order.index)

    def resolve(self, names: Iterable[str]) -> dict[str, Settings]:
        """Return the settings of each layer of ``names`` that the step acts on.

        Raises ``RecipeError`` for a pattern that matches nothing.
        """
        names = tuple(names)
        for pattern in (*self.layers, *(override.pattern for override in self.overrides)):
            if not any(fnmatchcase(name, pattern) for name in names):
                shown = ", ".join(names[:6]) + (", …" if len(names) > 6 else "")
                raise RecipeError(
                    f"Step '{self.technique}': the pattern '{pattern}' matches no layer; the layers are {shown}."
                )
        chosen = [name for name in names if any(fnmatchcase(name, pattern) for pattern in self.layers)]
        return {name: self.settings_of(name) for name in chosen}

    def to_data(self) -> dict[str, Any]:
        """Return the step as the one-key mapping of the YAML, with the settings that were given."""
        settings = self.settings.model_dump(mode="json", exclude_unset=True)
        if self.layers != ("*",):
            settings["layers"] = list(self.layers)
        if self.overrides:
            settings["overrides"] = {override.pattern: override.to_data() for override in self.overrides}
        return {self.technique: settings}

    def resolved(self) -> dict[str, Any]:
        """Return the step with every default filled in, as it is hashed; where it is calibrated, with how.

        Where a file teaches, with what is in it.
        """
        data = {
            "technique": self.technique,
            "settings": self.settings.hashed(),
            "layers": list(self.layers),
            "overrides": [[item.pattern, item.settings.hashed(item.changed)] for item in self.overrides],
        }
        if self.cost is Cost.CALIBRATED:
            return {**data, "calibration": CALIBRATION}
        taught = isinstance(self.settings, TrainingSettings) and teacher_file(self.settings)
        return {**data, "teacher": taught} if taught else data

    def settings_of(self, name: str) -> Settings:
        """Return the settings of the layer ``name``, its overrides merged in."""
        matching = [override for override in self.overrides if fnmatchcase(name, override.pattern)]
        if not matching:
            return self.settings
        merged = self.settings.model_dump(exclude_unset=True)
        for override in matching:
            changes = override.settings.model_dump(include=set(override.changed))
            merged = self.definition.settings.merged(merged, changes)
        return _validate(self.definition, merged, f"step '{self.technique}', overrides of '{name}'")


@dataclass(frozen=True)
class Recipe:
    """An ordered list of steps; ``Recipe()`` leaves the model as it is."""

    steps: tuple[Step, ...] = field(default=())

    @classmethod
    def parse(cls, text: str | list[Any]) -> Recipe:
        """Return the recipe that YAML or JSON text, or the same as Python lists and dicts, describes.

        Raises:
            RecipeError: one sentence naming the step, the field, what was given and what is allowed.

        Example:
            >>> recipe = Recipe.parse("- prune: {ratio: 0.5}\\n- quantize: {bits: 4}")
            >>> [step.technique for step in recipe.steps]
            ['prune', 'quantize']
        """
        data = _load_yaml(text) if isinstance(text, str) else text
        if data is None:
            return cls()
        if isinstance(data, PathLike) or (isinstance(data, str) and data.endswith((".yaml", ".yml", ".json"))):
            raise RecipeError(
                f"'{data}' is a file's name: give what the file holds, as Path({str(data)!r}).read_text()."
            )
        if not isinstance(data, list):
            raise RecipeError(
                "A recipe is a list of steps such as '- prune: {ratio: 0.5}', "
                f"but this is a {type(data).__name__}; begin each step with '- '."
            )
        return cls(tuple(_parse_step(number, item) for number, item in enumerate(data, 1)))

    @property
    def cost(self) -> Cost:
        """The dearest cost of its steps; an empty recipe is live."""
        return max((step.cost for step in self.steps), key=list(Cost).index, default=Cost.LIVE)

    @cached_property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of the fully resolved recipe."""
        resolved = json.dumps([step.resolved() for step in self.steps], sort_keys=True)
        return hashlib.sha256(resolved.encode()).hexdigest()[:16]

    def to_data(self) -> list[dict[str, Any]]:
        """Return plain lists and dicts, as ``parse`` takes them."""
        return [step.to_data() for step in self.steps]

    def to_yaml(self) -> str:
        """Return YAML that ``parse`` reads back to an equal recipe."""
        if not self.steps:
            return "[]\n"
        return yaml.safe_dump(self.to_data(), sort_keys=False, default_flow_style=None, allow_unicode=True)

    def to_json(self) -> str:
        """Return JSON that ``parse`` reads back to an equal recipe."""
        return json.dumps(self.to_data())

    def __bool__(self) -> bool:
        return bool(self.steps)


class _Loader(yaml.SafeLoader):
    """The safe loader, but a key that is there twice is an error: the first one's value would be lost unsaid."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Return the mapping as it is written, before keys that are merged in (``<<``) join its own."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                hint = "; begin each step with '- '" if key.value in TECHNIQUES else ""
                raise yaml.MarkedYAMLError(problem=f"'{key.value}' is there twice{hint}", problem_mark=key.start_mark)
            seen.add(key.value)
        return node


def _load_yaml(text: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # a safe one
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it cannot be read"
        raise RecipeError(f"The recipe is not valid YAML{where}: {problem}.") from error
    except ValueError as error:  # what looks like a date or a number and is none
        raise RecipeError(f"The recipe is not valid YAML: a value cannot be read ({error}).") from error
    except RecursionError:
        raise RecipeError("The recipe is not valid YAML: its brackets are nested too deep.") from None


def _parse_step(number: int, item: Any) -> Step:
    if isinstance(item, str):
        item = {item: {}}
    if not isinstance(item, Mapping) or len(item) != 1:
        raise RecipeError(
            f"Step {number} must be one technique with its settings, such as 'prune: {{ratio: 0.5}}', not {item!r}."
        )
    ((name, given),) = item.items()
    known = ", ".join(TECHNIQUES)
    if name not in TECHNIQUES:
        raise RecipeError(f"Step {number}: there is no technique '{name}'; there are {known}.")
    if given is None:
        given = {}
    if not isinstance(given, Mapping):
        raise RecipeError(f"Step {number} ({name}): its settings must be a mapping like {{ratio: 0.5}}, not {given!r}.")
    label = f"step {number} ({name})"
    fields = dict(given)
    layers = _parse_layers(label, fields.pop("layers", ["*"]))
    overrides = fields.pop("overrides", None) or {}
    technique = TECHNIQUES[name]
    settings = _validate(technique, fields, label)
    return Step(name, settings, layers, _parse_overrides(label, technique, settings, overrides))


def _parse_layers(label: str, given: Any) -> tuple[str, ...]:
    patterns = [given] if isinstance(given, str) else given
    if not isinstance(patterns, list) or not patterns or not all(isinstance(item, str) for item in patterns):
        raise RecipeError(
            f"In {label}, layers must be a list of glob patterns such as ['stage1.*', 'fc'], not {given!r}."
        )
    return tuple(patterns)


def _parse_overrides(label: str, technique: Technique[Any], settings: Settings, given: Any) -> tuple[Override, ...]:
    if not isinstance(given, Mapping):
        raise RecipeError(f"In {label}, overrides must map a layer pattern to settings, not {given!r}.")
    overrides = []
    for pattern, changes in given.items():
        if not isinstance(pattern, str | int) or isinstance(pattern, bool):  # 1.10 has become 1.1, another layer
            raise RecipeError(
                f"In {label}, a layer pattern of the overrides is read as the value {pattern!r}; put it in quotes, "
                "as in '1.10'."
            )
        if not isinstance(changes, Mapping):
            raise RecipeError(f"In {label}, the override of '{pattern}' must be settings like {{ratio: 0.2}}.")
        if shared := sorted(technique.settings.whole() & changes.keys()):
            raise RecipeError(
                f"In {label}, the override of '{pattern}' sets {shared[0]}, but all layers are trained together: "
                "set it for the whole step."
            )
        where = f"{label}, override of '{pattern}'"
        fields = technique.settings.merged(settings.model_dump(exclude_unset=True), changes)
        merged = _validate(technique, fields, where)
        overrides.append(Override(str(pattern), merged, tuple(sorted(changes))))
    return tuple(overrides)


def _validate(technique: Technique[Any], fields: Mapping[str, Any], where: str) -> Settings:
    try:
        settings: Settings = technique.settings.model_validate(dict(fields))
    except ValidationError as error:
        raise RecipeError(_explain(error, technique, where)) from error
    return settings


def _explain(error: ValidationError, technique: Technique[Any], where: str) -> str:
    first = error.errors()[0]
    path = ".".join(str(part) for part in first["loc"])
    where = where[0].upper() + where[1:]
    if first["type"] == "extra_forbidden":
        allowed = ", ".join([*technique.settings.model_fields, "layers", "overrides"])
        return f"{where} has no setting '{path}'; it has {allowed}."
    message = first["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if not path:
        return f"{where}: {message}."
    if first["type"] in ("model_type", "model_attributes_type"):
        return f"{where}: {path} is {first['input']!r}, but it should be settings of its own like {{bits: 8}}."
    if isinstance(first["input"], Mapping):
        return f"{where}, {path}: {message}."
    return f"{where}: {path} is {first['input']!r}, but {message.replace('input should', 'it should')}."
