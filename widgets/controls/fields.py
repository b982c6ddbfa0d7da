"""A technique's settings as fields a page can draw: made from the settings' type, so that none is forgotten."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, get_args

if TYPE_CHECKING:
    from workbench.techniques import Technique
    from workbench.techniques.base import Settings

Field = dict[str, Any]
#: Settings of a training that are shown first, in this order: what makes a method what it is, then what it costs.
#: Its others, two dozen, are folded away.
FIRST = (
    "ratio", "n", "m", "prior", "bits", "size", "max_bytes", "kind", "unit", "strength", "criterion", "grow", "rounds",
    "teacher", "loss", "epochs", "learning_rate", "images", "learn_from",
)  # fmt: skip


def fields_of(technique: Technique[Any], skip: Collection[str] = ()) -> list[Field]:
    """Return the settings of ``technique`` but those in ``skip``, each as plain data.

    ``name`` (dotted for nested settings), ``label``, ``help``, ``default``, and ``kind``: ``choice`` with
    its ``options``, ``flag``, or ``number`` with ``min``, ``max``, which of the two is ``excluded``, ``whole`` and
    ``optional``. A setting with one possible value is left out. ``when``: conditions of which one must hold for the
    setting to matter, if there are any; they and ``choices`` are those of the settings' type. ``first``: not to be
    folded away.
    """
    from workbench.techniques.trained import TrainingSettings

    kind = technique.settings
    schema = kind.model_json_schema()
    fields = _fields(schema, schema.get("$defs", {}), "", skip)
    trained = issubclass(kind, TrainingSettings)
    for field in fields:
        field["when"] = _conditions(kind, field["name"])
        field["first"] = field["name"] in FIRST or not trained
        if field["name"] in kind.choices:
            other, options = kind.choices[field["name"]]
            field["choices"] = {"by": other, "options": {str(value): list(names) for value, names in options.items()}}
    if trained:
        fields.sort(key=lambda field: FIRST.index(field["name"]) if field["first"] else len(FIRST))
    return fields


def _conditions(kind: type[Settings], name: str) -> list[dict[str, list[Any]]]:
    """Return when the setting ``name`` (dotted for nested ones) matters."""
    head, _, inner = name.partition(".")
    found = kind.conditions(head)
    if inner and not found:
        nested = get_args(kind.model_fields[head].annotation)[0]
        found = tuple({f"{head}.{key}": value for key, value in one.items()} for one in nested.conditions(inner))
    return [{other: list(values) for other, values in condition.items()} for condition in found]


def _fields(
    schema: Mapping[str, Any], definitions: Mapping[str, Any], prefix: str, skip: Collection[str]
) -> list[Field]:
    found = []
    for name, rule in schema.get("properties", {}).items():
        path = prefix + name
        if path in skip:
            continue
        inner = _nested(rule, definitions)
        if inner is not None:
            found += _fields(inner, definitions, f"{path}.", skip)
        elif (field := _field(path, rule)) is not None:
            found.append(field)
    return found


def _field(path: str, rule: Mapping[str, Any]) -> Field | None:
    common = {
        "name": path,
        "label": path.replace("_", " ").replace(".", " ").capitalize(),
        "help": rule.get("description", ""),
        "default": rule.get("default"),
    }
    variants = rule.get("anyOf", [rule])
    optional = any(variant.get("type") == "null" for variant in variants)
    shape: Mapping[str, Any] = next((variant for variant in variants if variant.get("type") != "null"), {})
    if "enum" in shape:
        return {**common, "kind": "choice", "options": [*([None] if optional else []), *shape["enum"]]}
    if shape.get("type") == "string" and rule.get("examples"):
        return {**common, "kind": "choice", "options": list(rule["examples"])}
    if shape.get("type") == "boolean":
        return {**common, "kind": "flag"}
    if shape.get("type") in ("integer", "number"):
        low = shape.get("minimum", shape.get("exclusiveMinimum"))
        high = shape.get("maximum", shape.get("exclusiveMaximum"))
        ends = {"min": "exclusiveMinimum", "max": "exclusiveMaximum"}
        return {
            **common, "kind": "number", "min": low, "max": high, "whole": shape["type"] == "integer",
            "optional": optional, "excluded": [end for end, name in ends.items() if name in shape],
        }  # fmt: skip
    return None


def _nested(rule: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any] | None:
    for variant in (rule, *rule.get("anyOf", ())):
        if "$ref" in variant:
            found: Mapping[str, Any] = definitions[variant["$ref"].rpartition("/")[2]]
            return found
    return None
