"""``workbench pipeline``: a model on several processes, by stages or by parts of each layer: a real run, a forecast."""

from __future__ import annotations

import argparse
import json
from typing import Any

from workbench.errors import WorkbenchError

from .common import Verbs, add_json, add_subject, load_data, read_recipe


def add(verbs: Verbs[Any]) -> None:
    """Declare the verb."""
    verb = verbs.add_parser("pipeline", help="run a model on several processes, against one process")
    add_subject(verb)
    verb.add_argument("--recipe", metavar="FILE", help="YAML or JSON file, '-' for standard input")
    verb.add_argument("--stages", type=int, default=2, metavar="N", help="processes, each on a core (default: 2)")
    verb.add_argument(
        "--tensor", action="store_true", help="each process holds a part of every layer, rather than some of the layers"
    )
    verb.add_argument("--microbatch", type=int, default=16, metavar="N", help="images a microbatch (default: 16)")
    verb.add_argument("--microbatches", type=int, default=8, metavar="N", help="microbatches a batch (default: 8)")
    verb.add_argument("--images", type=int, default=512, metavar="N", help="images a round (default: 512)")
    add_json(verb)
    verb.set_defaults(run=_pipeline)


def _pipeline(options: argparse.Namespace) -> int:
    from workbench.deploy.pipeline.compare import compare_pipeline
    from workbench.deploy.tensor_parallel.compare import compare_shares
    from workbench.deploy.writing import prepare
    from workbench.models.load import load_model
    from workbench.recipe import Recipe

    for name in ("stages", "microbatch", "microbatches", "images"):
        if getattr(options, name) < 1:
            raise WorkbenchError(f"--{name} must be 1 at least, not {getattr(options, name)}.")
    recipe = Recipe.parse(read_recipe(options.recipe)) if options.recipe else Recipe()
    model = load_model(options.model, architecture=options.architecture)
    data = load_data(options, model)
    source = prepare(model, data, recipe)
    batch = options.microbatch * options.microbatches
    split = data[options.split]
    count = max(batch, min(options.images, len(split)) // batch * batch)
    normalize = model.normalization or data.normalization
    compare, table = (compare_shares, _shares_table) if options.tensor else (compare_pipeline, _table)
    found = compare(
        source.module, normalize(split.images[:count]), options.stages,
        microbatch=options.microbatch, microbatches=options.microbatches,
    )  # fmt: skip
    report = {"model": model.name, "dataset": data.name, "recipe": recipe.to_data(), **found.to_json()}
    print(json.dumps(report, indent=1) if options.json else table(report))
    return 0


def _table(report: dict[str, Any]) -> str:
    many = report["pipeline"]
    lines = [
        *_throughputs(report, many),
        f"{'stage':<8}{'begins at':<28}{'ms':>9}{'weights kB':>12}{'memory MB':>11}",
    ]
    starts = ["the input", *many["cuts"]]
    for place, (start, ms, stage) in enumerate(zip(starts, report["stage_ms"], many["stages"], strict=True), 1):
        lines.append(f"{place:<8}{start:<28}{ms:>9.2f}{stage['weights'] / 1000:>12.0f}{stage['peak'] / 1e6:>11.0f}")
    lines.append(report["reason"])
    for entry in report["forecast"]:
        lines.append(f"{entry['stages']} stages: {entry['speedup']:.2f}× expected")
    return "\n".join(lines)


def _shares_table(report: dict[str, Any]) -> str:
    many, one = report["shared"], report["alone"]["stages"][0]
    lines = [*_throughputs(report, many), f"{'process':<12}{'weights kB':>12}{'memory MB':>11}{'adding up, ms':>15}"]
    for place, entry in enumerate((one, *many["stages"])):
        name = f"{place} of {len(many['stages'])}" if place else "alone"
        lines.append(
            f"{name:<12}{entry['weights'] / 1000:>12.0f}{entry['peak'] / 1e6:>11.0f}"
            + (f"{entry['sums_ms']:>15.2f}" if place else "")
        )
    lines += [f"shared: {', '.join(share['layers'])}" for share in report["shares"]]
    lines.append(report["reason"])
    lines += [f"{entry['processes']} processes: {entry['speedup']:.2f}× expected" for entry in report["forecast"]]
    return "\n".join(lines)


def _throughputs(report: dict[str, Any], many: dict[str, Any]) -> list[str]:
    return [
        f"{report['model']}, {report['images']} images in microbatches of {report['microbatch']}:",
        f"one process on one core   {report['alone']['throughput']:>8.0f} images/s",
        f"{len(many['stages'])} processes, a core each   {many['throughput']:>8.0f} images/s, "
        f"{report['speedup']:.2f}×, {'the same answers' if report['equal'] else 'other answers'}",
    ]
