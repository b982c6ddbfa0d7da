"""``workbench history``: the settings measured so far: list, show, name, star, delete, restore, export."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.counting import counted
from workbench.errors import WorkbenchError

from .common import Verbs, add_json

if TYPE_CHECKING:
    from workbench.history import History

#: Settings listed where no other number is asked for.
LISTED = 40
FILTERS = ("model", "data", "split", "text", "starred", "deleted")


def add(verbs: Verbs[Any]) -> None:
    """Declare the verb."""
    verb = verbs.add_parser("history", help="list, name, star, delete, restore and export measured settings")
    actions = verb.add_subparsers(title="actions", required=True, metavar="ACTION")
    listing = _action(actions, "list", _list, "list settings, the latest first")
    _add_filters(listing)
    listing.add_argument("--limit", type=int, default=LISTED, metavar="N", help="how many at most, 0 for all")
    show = _action(actions, "show", _show, "show a setting with its layers and where it came from")
    show.add_argument("id", type=int)
    name = _action(actions, "name", _name, "give a setting a name; an empty one takes it away")
    name.add_argument("id", type=int)
    name.add_argument("name")
    for action, text in (
        ("star", "star settings"), ("unstar", "take stars away"),
        ("delete", "delete settings; restore brings them back"), ("restore", "bring deleted settings back"),
    ):  # fmt: skip
        many = _action(actions, action, _change, text)
        many.set_defaults(action=action)
        many.add_argument("ids", type=int, nargs="+", metavar="id")
    export = _action(actions, "export", _export, "write settings as CSV")
    export.add_argument("file", metavar="FILE", help="where to, '-' for standard output")
    _add_filters(export)


def _action(actions: Verbs[Any], name: str, run: Any, text: str) -> argparse.ArgumentParser:
    action: argparse.ArgumentParser = actions.add_parser(name, help=text)
    action.add_argument("--history", metavar="FILE", help="history file (default: your own)")
    add_json(action)
    action.set_defaults(run=run)
    return action


def _add_filters(action: argparse.ArgumentParser) -> None:
    for name in ("model", "data", "split"):
        action.add_argument(f"--{name}", default="", metavar=name[0].upper(), help=f"only of this {name}")
    action.add_argument("--text", default="", metavar="T", help="only those with this in their name or recipe")
    action.add_argument("--starred", action="store_true", help="only those with a star")
    action.add_argument("--deleted", action="store_true", help="the deleted ones instead")
    action.add_argument("--sort", default="time", metavar="S", help="time, accuracy, bytes, latency_ms or loss")


def _open(options: argparse.Namespace) -> History:
    from workbench.history import History

    if options.history and not Path(options.history).is_file():
        raise WorkbenchError(f"There is no history file '{options.history}'; give the path of one.")
    history = History(options.history)
    for note in history.notes:
        print(f"workbench: {note}", file=sys.stderr)
    return history


def _rows(options: argparse.Namespace, limit: int = 0) -> list[dict[str, Any]]:
    from workbench.history.table import Filter, list_settings

    wanted = Filter(**{name: getattr(options, name) for name in FILTERS})
    return list_settings(_open(options), wanted, options.sort, limit)


def _list(options: argparse.Namespace) -> int:
    rows = _rows(options, max(0, options.limit))
    if options.json:
        print(json.dumps({"settings": rows}, indent=1))
        return 0
    print("\n".join(_line(row) for row in rows) or "No settings yet.")
    return 0


def _show(options: argparse.Namespace) -> int:
    from workbench.history.table import show_setting

    row = show_setting(_open(options), options.id)
    if options.json:
        print(json.dumps(row, indent=1))
        return 0
    print(_line(row))
    print(f"  {row['model']} on {row['data']}, {row['n']:,} {row['split']} images, {row['runtime']}, {row['time']}")
    for ancestor in row["ancestors"]:
        print(f"  from {ancestor['id']}: {_score(ancestor).strip()}  {_recipe(ancestor)}")
    for layer in row["layers"]:
        print(f"  {layer['name']:24} {layer['bytes']:>10,} B  {layer['sparsity']:6.1%} zeros  {layer['bits']:g} bit")
    return 0


def _open_to_change(options: argparse.Namespace) -> History:
    history = _open(options)
    if not history.lasting:
        raise WorkbenchError(f"The history file '{history.path}' is read-only, so nothing in it can be changed.")
    return history


def _name(options: argparse.Namespace) -> int:
    history = _open_to_change(options)
    history.rename(options.id, options.name)
    return _told(history, [options.id], options.json)


def _change(options: argparse.Namespace) -> int:
    history = _open_to_change(options)
    if options.action in ("star", "unstar"):
        for identity in options.ids:
            history.record(identity)  # all of them, or none
        for identity in options.ids:
            history.star(identity, options.action == "star")
    else:
        (history.delete if options.action == "delete" else history.restore)(*options.ids)
    return _told(history, options.ids, options.json)


def _export(options: argparse.Namespace) -> int:
    from workbench.history.table import to_csv

    rows = _rows(options)
    text = to_csv(rows)
    if options.file == "-":
        print(text, end="")
        return 0
    try:
        Path(options.file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise WorkbenchError(f"'{options.file}' cannot be written: {error.strerror or error}.") from error
    if options.json:
        print(json.dumps({"file": options.file, "settings": len(rows)}))
    else:
        print(f"{counted(len(rows), 'setting')} in {options.file}")
    return 0


def _told(history: History, identities: list[int], as_json: bool) -> int:
    from workbench.history.table import to_row

    rows = [to_row(history.key_of(identity), history.record(identity)) for identity in identities]
    print(json.dumps({"settings": rows}, indent=1) if as_json else "\n".join(map(_line, rows)))
    return 0


def _line(row: dict[str, Any]) -> str:
    timed = "–" if row["latency_ms"] is None else f"{row['latency_ms']:.2f} ms"
    marks = ("★ " if row["starred"] else "") + ("(deleted) " if row["deleted"] else "")
    name = f"{row['name']}: " if row["name"] else ""
    return (
        f"{row['id']:>6}  {_score(row)}  {row['bytes']:>10,} B  {timed:>9}  {row['model']}, "
        f"{row['split']}  {marks}{name}{_recipe(row)}"
    )


def _score(row: dict[str, Any]) -> str:
    """Return the accuracy; where the images have no labels, the agreement with the dense model, marked."""
    return f"={row['agreement']:6.2%}" if row["accuracy"] is None else f"{row['accuracy']:7.2%}"


def _recipe(row: dict[str, Any]) -> str:
    return json.dumps(row["recipe"]).replace('"', "")[1:-1] or "dense"
