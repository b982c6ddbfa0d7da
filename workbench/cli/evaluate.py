"""``workbench evaluate``: accuracy, size, latency and layers of one recipe."""

from __future__ import annotations

import argparse
import json
from typing import Any

from .common import Verbs, add_json, add_subject, add_synthetic, load_data, read_recipe, require_packed


def add(verbs: Verbs[Any]) -> None:
    """Declare the verb."""
    verb = verbs.add_parser("evaluate", help="measure a recipe: accuracy, size, latency, layers")
    add_subject(verb)
    add_synthetic(verb)
    verb.add_argument("--recipe", metavar="FILE", help="YAML or JSON file, '-' for standard input")
    verb.add_argument(
        "--device", metavar="NAME", help="device for latency: a name, or a .yaml file (default: this machine)"
    )
    verb.add_argument(
        "--anchor",
        action="append",
        default=[],
        metavar="WHAT=MS",
        help="measured on the device: dense=12.5, or in the place of dense a recipe's or .onnx file or a "
        "published network's name; may be repeated",
    )
    verb.add_argument(
        "--profile",
        metavar="FILE",
        help="profile of the dense model on the device: benchmark_app, ONNX Runtime or TFLite",
    )
    verb.add_argument("--save", metavar="FILE", help="write the compressed model as .wbz")
    add_json(verb)
    verb.set_defaults(run=_evaluate)


def _evaluate(options: argparse.Namespace) -> int:
    from workbench.analyze.report import evaluation_report, render_report
    from workbench.deploy.anchors import calibrated_target
    from workbench.errors import WorkbenchError
    from workbench.models.load import load_model
    from workbench.recipe import Recipe
    from workbench.session import Session

    require_packed(options.save, "--save")
    recipe = Recipe.parse(read_recipe(options.recipe)) if options.recipe else Recipe()
    model = load_model(options.model, architecture=options.architecture)
    if options.device is None and (options.anchor or options.profile):
        raise WorkbenchError("Anchors and profiles are for a described device: give it with --device.")
    device = options.device or "this-machine"
    with Session(model, load_data(options, model), split=options.split, device=device) as session:
        if options.anchor or options.profile:
            session.use_device(calibrated_target(device, session, options.anchor, options.profile))
        session.learn_latency()
        snapshot = session.measure(recipe)
        if options.save:
            session.compressed.save(options.save)
        report = evaluation_report(session, snapshot)
    print(json.dumps(report, indent=1) if options.json else render_report(report))
    return 0
