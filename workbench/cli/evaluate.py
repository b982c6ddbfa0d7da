"""``workbench evaluate``: accuracy, size, latency and layers of one recipe."""

from __future__ import annotations

import argparse
import json
from typing import Any

from .common import Verbs, add_json, add_subject, read_recipe


def add(verbs: Verbs[Any]) -> None:
    """Declare the verb."""
    verb = verbs.add_parser("evaluate", help="measure a recipe: accuracy, size, latency, layers")
    add_subject(verb)
    verb.add_argument("--recipe", metavar="FILE", help="YAML or JSON file, '-' for standard input")
    verb.add_argument("--device", metavar="NAME", help="device for latency (default: this machine)")
    verb.add_argument("--save", metavar="FILE", help="write the compressed model as .wbz")
    add_json(verb)
    verb.set_defaults(run=_evaluate)


def _evaluate(options: argparse.Namespace) -> int:
    from workbench.analyze.report import evaluation_report, render_report
    from workbench.measure.latency.device import find_device
    from workbench.models.load import load_model
    from workbench.recipe import Recipe
    from workbench.session import Session

    if options.device is not None:
        find_device(options.device)
    recipe = Recipe.parse(read_recipe(options.recipe)) if options.recipe else Recipe()
    model = load_model(options.model, architecture=options.architecture)
    with Session(model, options.data, split=options.split) as session:
        session.learn_latency()
        snapshot = session.measure(recipe)
        if options.save:
            session.compressed.save(options.save)
        report = evaluation_report(session, snapshot)
    print(json.dumps(report, indent=1) if options.json else render_report(report))
    return 0
