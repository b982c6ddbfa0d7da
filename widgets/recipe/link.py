"""The page's address: model, data, recipe and locked layers in the fragment, so that a link brings all back.

    #model=resnet20&data=fashion_mnist&recipe=%5B%7B%22prune%22:%7B%22ratio%22:0.6%7D%7D%5D&v=1

A fragment never leaves the browser by itself; the page sends it to its kernel. What was opened from a file
on the kernel's machine is named by its path; what was uploaded as ``file:NAME``, which no other page has.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from urllib.parse import quote, unquote

import yaml

from workbench.errors import WorkbenchError

VERSION = 1
#: What a fragment may have at most; browsers and mail programs cut longer ones.
MAX_CHARACTERS = 200_000
#: What a version's number may have: Python reads none of thousands of digits.
MAX_DIGITS = 9
#: Marks a name as that of a file which the page had, and another page has not.
FILE = "file:"
#: Left as they are, so that an address stays readable; all are allowed in a fragment.
_PLAIN = ":/@."


class LinkError(WorkbenchError):
    """A link that cannot be followed; ``recipe`` is what could be saved of its recipe, as text."""

    def __init__(self, sentence: str, recipe: str = "") -> None:
        super().__init__(sentence)
        self.recipe = recipe


@dataclass(frozen=True)
class Link:
    """What a page shows: names of model and data (empty: the default), the recipe as text, locked layers."""

    model: str = ""
    data: str = ""
    recipe: str = ""
    locked: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self != Link()


def write_link(model: str, data: str, steps: list[dict[str, object]], locked: tuple[str, ...] = ()) -> str:
    """Return the fragment (without ``#``) for these names, the recipe's ``steps`` and the locked layers.

    >>> write_link("resnet20", "digits", [{"quantize": {"bits": 4}}])
    'model=resnet20&data=digits&recipe=%5B%7B%22quantize%22:%7B%22bits%22:4%7D%7D%5D&v=1'
    """
    parts = [f"model={_quoted(model)}", f"data={_quoted(data)}"]
    if steps:
        parts.append(f"recipe={_quoted(json.dumps(steps, separators=(',', ':'), ensure_ascii=False))}")
    if locked:
        parts.append(f"locked={','.join(map(_quoted, locked))}")
    return "&".join([*parts, f"v={VERSION}"])


def read_link(fragment: str) -> Link:
    """Return what a fragment says; an empty Link where it says nothing of the workbench.

    Raises ``LinkError`` for a link that was cut off or damaged, or is of a newer version.
    """
    if len(fragment) > MAX_CHARACTERS:
        raise LinkError(f"This link has {len(fragment):,} characters, and the page reads {MAX_CHARACTERS:,} at most.")
    pairs = (part.partition("=") for part in fragment.removeprefix("#").split("&"))
    fields = {name: value for name, equals, value in pairs if equals}
    if not fields.keys() & {"model", "data", "recipe"}:
        return Link()
    recipe, damage = _read_recipe(unquote(fields.get("recipe", "")))
    version = fields.get("v", str(VERSION))
    if not version.isdecimal() or len(version) > MAX_DIGITS:
        raise LinkError("This link is damaged: its version is no number.", recipe)
    if int(version) > VERSION:
        raise LinkError(
            f"This link is from a newer version of the workbench (format {int(version)}, this one reads {VERSION}): "
            "update to open it.",
            recipe,
        )
    if damage:
        raise LinkError(damage, recipe)
    locked = tuple(unquote(name) for name in fields.get("locked", "").split(",") if name)
    return Link(unquote(fields.get("model", "")), unquote(fields.get("data", "")), recipe, locked)


def _read_recipe(text: str) -> tuple[str, str]:
    """Return the recipe as YAML, as the editor shows it, and a sentence where it is damaged (then as it is)."""
    if not text:
        return "", ""
    try:
        steps = json.loads(text)
        return yaml.safe_dump(steps, sort_keys=False, default_flow_style=None, allow_unicode=True), ""
    except (ValueError, RecursionError):
        return text, "The recipe in this link is damaged; perhaps the link was cut off when it was copied."


def _quoted(text: str) -> str:
    return quote(text, safe=_PLAIN)
