"""``workbench report``: a model card of a setting, in HTML and Markdown."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import WorkbenchError

from .common import Verbs, add_json, read_recipe

if TYPE_CHECKING:
    from workbench.history import History

_WRITERS = {".html": "to_html", ".md": "to_markdown"}


def add(verbs: Verbs[Any]) -> None:
    """Declare the verb."""
    verb = verbs.add_parser("report", help="write a model card of a setting, from the history")
    verb.add_argument("id", type=int, nargs="?", help="number of the setting in the history (see workbench history)")
    verb.add_argument("--model", metavar="M", help="where no number is given, or its model cannot be found by name")
    verb.add_argument("--data", metavar="D", help="likewise, the data")
    verb.add_argument("--recipe", metavar="FILE", help="recipe in the place of a number, '-' for standard input")
    verb.add_argument("--split", metavar="S", help="split to report on (default: the setting's, or test)")
    verb.add_argument("--device", action="append", default=[], metavar="NAME", help="also predict there; repeatable")
    verb.add_argument(
        "--include", action="append", default=[], metavar="FILE",
        help="JSON that workbench export or benchmark printed; may be repeated",
    )  # fmt: skip
    verb.add_argument("--history", metavar="FILE", help="history file (default: your own)")
    verb.add_argument(
        "--out", default="model-card", metavar="PATH", help="file ending in .html or .md, or both without an ending"
    )
    add_json(verb)
    verb.set_defaults(run=_report)


def _report(options: argparse.Namespace) -> int:
    from workbench.data.fitting import load_fitting
    from workbench.deploy import card as cards
    from workbench.history import History
    from workbench.models.load import load_model
    from workbench.recipe import Recipe
    from workbench.session import Session

    places = _places(options.out)
    if (options.id is None) == (options.recipe is None):
        raise WorkbenchError("Give the number of a setting (see workbench history list), or a recipe with --recipe.")
    if options.history and not Path(options.history).is_file():
        raise WorkbenchError(f"There is no history file '{options.history}'; give the path of one.")
    history = History(options.history)
    model, data, split, recipe = _setting(options, history)
    with _asking_for("model", options, model):
        loaded = load_model(model)
    with _asking_for("data", options, data):
        images = load_fitting(data, loaded.input_shape, loaded.classes)
    with Session(loaded, images, split=split, history=history) as session:
        known = {session.key.identity, session.key_of(Recipe.parse(recipe)).identity}
        if options.id is not None and history.key_of(options.id).identity not in known:
            raise WorkbenchError(
                f"Setting {options.id} was measured on another model or other data than '{model}' and '{data}' are "
                "now; give them with --model and --data."
            )
        facts = cards.gather(session, Recipe.parse(recipe), options.device, options.include)
        document = cards.card(facts)
    for place in places:
        _write(place, getattr(cards, _WRITERS[place.suffix])(document))
    written = [{"path": str(place), "bytes": place.stat().st_size} for place in places]
    if options.json:
        print(json.dumps({"title": document.title, "summary": document.lead, "files": written}, indent=1))
    else:
        print(document.lead, *(f"{entry['path']}, {entry['bytes']:,} bytes" for entry in written), sep="\n")
    return 0


@contextlib.contextmanager
def _asking_for(what: str, options: argparse.Namespace, name: str) -> Iterator[None]:
    """Where what the history knows only by ``name`` is not there, say how it can be given."""
    try:
        yield
    except WorkbenchError as error:
        if getattr(options, what) is not None:
            raise
        raise WorkbenchError(
            f"Of the {what} of setting {options.id} the history keeps the name '{name}', which is not enough to load "
            f"it: give it with --{what}. ({error})"
        ) from error


def _setting(options: argparse.Namespace, history: History) -> tuple[str, str, str, str]:
    """Return model, data, split and the recipe's text, from the options and the history."""
    if options.id is None:
        if not options.model or not options.data:
            raise WorkbenchError("A report on a recipe needs --model and --data.")
        return options.model, options.data, options.split or "test", read_recipe(options.recipe)
    key, record = history.key_of(options.id), history.record(options.id)
    return options.model or key.model, options.data or key.data, options.split or key.split, record.recipe


def _places(out: str) -> list[Path]:
    path = Path(out)
    if path.name in ("", ".."):
        raise WorkbenchError(f"'{out}' is a folder: let --out name a file in it.")
    if path.suffix in _WRITERS:
        return [path]
    if path.suffix:
        raise WorkbenchError(f"A report is written as .html or .md, not as '{path.suffix}'.")
    return [path.with_suffix(ending) for ending in _WRITERS]


def _write(place: Path, text: str) -> None:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    except OSError as error:
        raise WorkbenchError(f"The report cannot be written to '{place}': {error.strerror}.") from error
