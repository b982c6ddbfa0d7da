"""``workbench sensitivity``: what each layer costs when it alone is compressed."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from workbench.errors import WorkbenchError

from .common import Verbs, add_json, add_subject, follow, load_data, read_recipe

if TYPE_CHECKING:
    from workbench.recipe import Recipe
    from workbench.session import Session


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
    verb.add_argument(
        "--metrics", action="store_true", help="compare metrics that need no sweep with what was measured"
    )
    verb.add_argument("--pairs", action="store_true", help="measure the layers alone and in pairs, at one value")
    verb.add_argument("--executor", choices=("threads", "processes", "inline"), help="where it runs (default: threads)")
    verb.add_argument("--scheduler", metavar="ADDRESS", help="run on the workers of this Dask scheduler")
    add_json(verb)
    verb.set_defaults(run=_sensitivity)


def _sensitivity(options: argparse.Namespace) -> int:
    import yaml

    from workbench.analyze.report import render_sensitivity
    from workbench.models.load import load_model
    from workbench.recipe import Recipe
    from workbench.session import Session

    try:
        values = [yaml.safe_load(value) for value in options.values.split(",")] if options.values else None
    except (yaml.YAMLError, ValueError) as error:  # a ValueError where it looks like a date and is none
        raise WorkbenchError(f"The values '{options.values}' cannot be read; write them as 0.2,0.5,0.8.") from error
    if options.pairs:
        _refuse_beside_pairs(options)
    recipe = Recipe.parse(read_recipe(options.recipe)) if options.recipe else Recipe()
    model = load_model(options.model, architecture=options.architecture)
    with Session(model, load_data(options, model), split=options.split) as session:
        report = (_pairs if options.pairs else _sweep)(session, options, values, recipe)
    print(json.dumps(report, indent=1) if options.json else render_sensitivity(report))
    return 0


def _sweep(session: Session, options: argparse.Namespace, values: list[Any] | None, recipe: Recipe) -> dict[str, Any]:
    from workbench.analyze.ranking import RankingJob, rank_metrics
    from workbench.analyze.report import sensitivity_report
    from workbench.analyze.sensitivity import measure_sensitivity

    job = measure_sensitivity(
        session,
        options.technique,
        setting=options.setting,
        values=values,
        layers=options.layers.split(",") if options.layers else None,
        tolerance=_tolerance(options),
        recipe=recipe,
        mode=options.mode,
        executor=options.scheduler or options.executor,
        keep=True,
    )
    follow(job)
    found = job.result()
    if job.trouble:
        print(f"workbench: {job.trouble}", file=sys.stderr)
    report = sensitivity_report(session, found)
    if options.metrics:
        comparison = RankingJob(session, found)
        follow(comparison)
        report["metrics"] = [each.to_json() for each in rank_metrics(found, comparison.result())]
    return report


def _tolerance(options: argparse.Namespace) -> float | None:
    """Return the share that ``--tolerance`` means, which is given in points; 0 asks for every image."""
    points = options.tolerance
    if points is not None and not points >= 0:
        raise WorkbenchError(f"The tolerance is {points:g} points, but it should be above 0.")
    return points / 100 if points else None


def _refuse_beside_pairs(options: argparse.Namespace) -> None:
    """Raise ``WorkbenchError`` for options that pairs know nothing of."""
    for name, given in (("--mode others", options.mode == "others"), ("--metrics", options.metrics)):
        if given:
            raise WorkbenchError(
                f"{name} does not go with --pairs, which measures layers alone and in pairs: leave one out."
            )


def _pairs(session: Session, options: argparse.Namespace, values: list[Any] | None, recipe: Recipe) -> dict[str, Any]:
    from workbench.analyze.interactions import interactions_of, measure_interactions
    from workbench.analyze.report import sensitivity_report
    from workbench.analyze.sensitivity import shared_settings, what_to_vary

    if values is not None and len(values) != 1:
        raise WorkbenchError(f"Pairs are measured at one value, and {len(values)} are given.")
    setting, _ = what_to_vary(options.technique, options.setting, values)
    job = measure_interactions(
        session,
        options.layers.split(",") if options.layers else ["*"],
        options.technique,
        setting=options.setting,
        level=values[0] if values else None,
        settings=shared_settings(recipe, options.technique, setting),
        tolerance=_tolerance(options),
        executor=options.scheduler or options.executor,
    )
    follow(job)
    found = job.result()
    return {**sensitivity_report(session, found), "pairs": interactions_of(found).to_json()}
