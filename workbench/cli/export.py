"""``workbench export`` and ``workbench formats``: files for runtimes, judged in the runtime that opens them."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from workbench.errors import WorkbenchError

from .common import Verbs, add_json, load_data, read_recipe


def add(verbs: Verbs[Any]) -> None:
    """Declare the verbs."""
    verb = verbs.add_parser("export", help="write a file for a runtime, and judge it in that runtime")
    verb.add_argument("--model", required=True, metavar="M", help="zoo name, file, or torchvision:NAME")
    verb.add_argument("--data", metavar="D", help="data to judge it on (default: what the zoo's model is for)")
    verb.add_argument("--architecture", metavar="NAME", help="zoo architecture of a state-dict file")
    verb.add_argument("--split", default="test", help="split to report on (default: test)")
    verb.add_argument("--recipe", metavar="FILE", help="YAML or JSON file, '-' for standard input")
    verb.add_argument("--format", required=True, metavar="F", help="as `workbench formats` lists them")
    verb.add_argument("--out", required=True, metavar="DIR", help="folder to write into; made where there is none")
    add_json(verb)
    verb.set_defaults(run=_export)
    listing = verbs.add_parser("formats", help="list the formats that models are exported to")
    add_json(listing)
    listing.set_defaults(run=_formats)


def _export(options: argparse.Namespace) -> int:
    from workbench.deploy.export import export
    from workbench.deploy.report import render_export
    from workbench.models.load import load_model
    from workbench.recipe import Recipe

    recipe = Recipe.parse(read_recipe(options.recipe)) if options.recipe else Recipe()
    model = load_model(options.model, architecture=options.architecture)
    options.data = options.data or model.card.get("dataset")
    if options.data is None:
        raise WorkbenchError(f"'{model.name}' does not say which data it is for: name them with --data.")
    data = load_data(options, model)
    written = export(model, data, recipe, options.format, options.out, split=options.split, tell=_tell)
    print(json.dumps(written.to_json(), indent=1) if options.json else render_export(written))
    return 0


def _tell(what: str, share: float) -> None:
    """Tell what is under way on one line of standard error, where a person is looking."""
    if sys.stderr.isatty():
        print(f"\rexport: {what} {share:.0%}\x1b[K", end="" if share < 1 else "\n", file=sys.stderr, flush=True)


def _formats(options: argparse.Namespace) -> int:
    from workbench.deploy.formats import FORMATS

    entries = [entry.to_json() for entry in FORMATS.values()]
    if options.json:
        print(json.dumps(entries, indent=1))
        return 0
    width = max(len(entry["name"]) for entry in entries)
    for entry in entries:
        missing = "" if entry["installed"] else f" (not installed: {entry['install']})"
        varies = f" (written again, its bytes differ: {entry['varies']})" if entry["varies"] else ""
        print(f"{entry['name'].ljust(width)}  {entry['summary']}{varies}{missing}")
    return 0
