"""``workbench compare``: two or more recipes of one model: figures, recipe diff, classes hurt, flips."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from workbench.errors import WorkbenchError

from .common import Verbs, add_json, add_subject, load_data, read_recipe


def add(verbs: Verbs[Any]) -> None:
    """Declare the verb."""
    verb = verbs.add_parser("compare", help="compare recipes of one model: figures, classes hurt, flips")
    add_subject(verb)
    verb.add_argument(
        "recipes", nargs="+", metavar="RECIPE",
        help="YAML or JSON files, '-' for standard input, 'dense' for the uncompressed model; each is compared "
        "with the first, a single one with the dense model",
    )  # fmt: skip
    add_json(verb)
    verb.set_defaults(run=_compare)


def _compare(options: argparse.Namespace) -> int:
    from workbench.analyze.compare import compare_settings
    from workbench.analyze.comparison_report import comparison_report, render_comparison
    from workbench.models.load import load_model
    from workbench.recipe import Recipe
    from workbench.session import Session

    names = options.recipes if len(options.recipes) > 1 else ["dense", *options.recipes]
    if names.count("-") > 1:
        raise WorkbenchError("Only one recipe can come from standard input; give the others as files.")
    recipes = [Recipe() if name == "dense" else Recipe.parse(read_recipe(name)) for name in names]
    model = load_model(options.model, architecture=options.architecture)

    def follow(done: int) -> None:
        if sys.stderr.isatty():
            print(f"\rcompare: {done} of {len(recipes)} measured\x1b[K", end="", file=sys.stderr, flush=True)
            if done == len(recipes):
                print(file=sys.stderr)

    with Session(model, load_data(options, model), split=options.split) as session:
        report = comparison_report(session, compare_settings(session, recipes, follow), names)
    print(json.dumps(report, indent=1) if options.json else render_comparison(report))
    return 0
