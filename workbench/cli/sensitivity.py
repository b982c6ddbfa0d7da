"""``workbench sensitivity``: what each layer costs when it alone is compressed."""

from __future__ import annotations

import argparse
import json
from typing import Any

from workbench.errors import WorkbenchError

from .common import Verbs, add_json, add_subject, follow, read_recipe


def add(verbs: Verbs[Any]) -> None:
    """Declare the verb."""
    verb = verbs.add_parser("sensitivity", help="measure what each layer costs when it alone is compressed")
    add_subject(verb)
    verb.add_argument("--technique", default="prune", metavar="T", help="what to compress by (default: prune)")
    verb.add_argument("--setting", metavar="S", help="setting to vary (default: the technique's ratio or bits)")
    verb.add_argument("--values", metavar="V1,V2", help="its values, mild to harsh (default: the usual ones)")
    verb.add_argument("--layers", metavar="L1,L2", help="names or patterns of layers (default: all)")
    verb.add_argument("--recipe", metavar="FILE", help="recipe whose other settings of the technique are used")
    verb.add_argument(
        "--tolerance", type=float, metavar="P", help="stop at ± P points, or a tenth of the loss (default: every image)"
    )
    verb.add_argument(
        "--mode", choices=("only", "others"), default="only", help="compress the layer alone (default), or all but it"
    )
    verb.add_argument("--executor", choices=("threads", "processes", "inline"), help="where it runs (default: threads)")
    verb.add_argument("--scheduler", metavar="ADDRESS", help="run on the workers of this Dask scheduler")
    add_json(verb)
    verb.set_defaults(run=_sensitivity)


def _sensitivity(options: argparse.Namespace) -> int:
    import yaml

    from workbench.analyze.report import render_sensitivity, sensitivity_report
    from workbench.analyze.sensitivity import measure_sensitivity
    from workbench.models.load import load_model
    from workbench.recipe import Recipe
    from workbench.session import Session

    try:
        values = [yaml.safe_load(value) for value in options.values.split(",")] if options.values else None
    except yaml.YAMLError as error:
        raise WorkbenchError(f"The values '{options.values}' cannot be read; write them as 0.2,0.5,0.8.") from error
    recipe = Recipe.parse(read_recipe(options.recipe)) if options.recipe else Recipe()
    model = load_model(options.model, architecture=options.architecture)
    with Session(model, options.data, split=options.split) as session:
        job = measure_sensitivity(
            session,
            options.technique,
            setting=options.setting,
            values=values,
            layers=options.layers.split(",") if options.layers else None,
            tolerance=options.tolerance / 100 if options.tolerance else None,
            recipe=recipe,
            mode=options.mode,
            executor=options.scheduler or options.executor,
        )
        follow(job)
        report = sensitivity_report(session, job.result())
    print(json.dumps(report, indent=1) if options.json else render_sensitivity(report))
    return 0
