"""The ``workbench`` command.

Exit status 0 when done, 2 for bad input with one sentence on stderr. Imports torch only in the verbs
that need it, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except WorkbenchError as error:
        print(f"workbench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        sys.stderr.close()
        return 0
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="workbench", description="Compress neural networks, and see what it costs in accuracy."
    )
    verbs = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    evaluate = verbs.add_parser("evaluate", help="measure a recipe: accuracy, size, latency, layers")
    evaluate.add_argument("--model", required=True, metavar="M", help="zoo name, file, or torchvision:NAME")
    evaluate.add_argument("--data", required=True, metavar="D", help="name, folder of images, .npz or .parquet")
    evaluate.add_argument("--recipe", metavar="FILE", help="YAML or JSON file, '-' for standard input")
    evaluate.add_argument("--architecture", metavar="NAME", help="zoo architecture of a state-dict file")
    evaluate.add_argument("--split", default="test", help="split to report on (default: test)")
    evaluate.add_argument("--device", metavar="NAME", help="device for latency (default: this machine)")
    evaluate.add_argument("--save", metavar="FILE", help="write the compressed model as .wbz")
    evaluate.add_argument("--json", action="store_true", help="print JSON")
    evaluate.set_defaults(run=_evaluate)

    _add_sensitivity(verbs.add_parser("sensitivity", help="measure what each layer costs when it alone is compressed"))

    listings = (
        ("models", _models, "list the zoo"),
        ("datasets", _datasets, "list the named data sets"),
        ("techniques", _techniques, "list the techniques and their settings"),
        ("devices", _devices, "list the devices latency is known for"),
    )
    for name, run, text in listings:
        listing = verbs.add_parser(name, help=text)
        listing.add_argument("--json", action="store_true", help="print JSON")
        listing.set_defaults(run=run)

    _add_app(verbs.add_parser("app", help="serve the app and print its URL"))
    return parser


def _add_sensitivity(sensitivity: argparse.ArgumentParser) -> None:
    sensitivity.add_argument("--model", required=True, metavar="M", help="zoo name, file, or torchvision:NAME")
    sensitivity.add_argument("--data", required=True, metavar="D", help="name, folder of images, .npz or .parquet")
    sensitivity.add_argument("--technique", default="prune", metavar="T", help="what to compress by (default: prune)")
    sensitivity.add_argument("--setting", metavar="S", help="setting to vary (default: the technique's ratio or bits)")
    sensitivity.add_argument("--values", metavar="V1,V2", help="its values, mild to harsh (default: the usual ones)")
    sensitivity.add_argument("--layers", metavar="L1,L2", help="names or patterns of layers (default: all)")
    sensitivity.add_argument("--recipe", metavar="FILE", help="recipe whose other settings of the technique are used")
    sensitivity.add_argument("--architecture", metavar="NAME", help="zoo architecture of a state-dict file")
    sensitivity.add_argument("--split", default="test", help="split to measure on (default: test)")
    sensitivity.add_argument(
        "--tolerance", type=float, metavar="P", help="stop at ± P points, or a tenth of the loss (default: every image)"
    )
    sensitivity.add_argument("--json", action="store_true", help="print JSON")
    sensitivity.set_defaults(run=_sensitivity)


def _add_app(app: argparse.ArgumentParser) -> None:
    app.add_argument("--port", type=int, metavar="N", help="port, 0 for any (default: 8866, or the next free one)")
    app.add_argument(
        "--ip",
        default="localhost",
        metavar="ADDRESS",
        help="address to listen on, 0.0.0.0 for all; beyond localhost a token is asked for (default: localhost)",
    )
    app.add_argument("--base-url", default="/", metavar="/PATH/", help="path under which a proxy serves the app")
    app.add_argument(
        "--max-kernels", type=int, metavar="N", help="pages open at once, at most (default: as many as memory allows)"
    )
    app.add_argument(
        "--data-folder",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="folder that pages may load data from; may be repeated (default: any on localhost, none beyond)",
    )
    app.add_argument(
        "--pool", type=int, default=1, metavar="N", help="pages kept ready for who comes next (default: 1)"
    )
    app.add_argument("--no-browser", action="store_true", help="do not open a browser")
    app.set_defaults(run=_app)


def _evaluate(options: argparse.Namespace) -> int:
    from workbench.analyze.report import evaluation_report, render_report
    from workbench.measure.latency.device import find_device
    from workbench.models.load import load_model
    from workbench.recipe import Recipe
    from workbench.session import Session

    if options.device is not None:
        find_device(options.device)
    recipe = Recipe.parse(_read_recipe(options.recipe)) if options.recipe else Recipe()
    model = load_model(options.model, architecture=options.architecture)
    with Session(model, options.data, split=options.split) as session:
        session.learn_latency()
        snapshot = session.measure(recipe)
        if options.save:
            session.compressed.save(options.save)
        report = evaluation_report(session, snapshot)
    print(json.dumps(report, indent=1) if options.json else render_report(report))
    return 0


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
    recipe = Recipe.parse(_read_recipe(options.recipe)) if options.recipe else Recipe()
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
        )
        report = sensitivity_report(session, job.result())
    print(json.dumps(report, indent=1) if options.json else render_sensitivity(report))
    return 0


def _read_recipe(path: str) -> str:
    if path == "-":
        return sys.stdin.read()
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise WorkbenchError(f"The recipe file '{path}' cannot be read: {reason}.") from error


def _models(options: argparse.Namespace) -> int:
    from workbench.models.load import available_models

    return _list(available_models(), options.json, ("name", "parameters", "test_accuracy", "summary"))


def _datasets(options: argparse.Namespace) -> int:
    from workbench.data.catalog import available_datasets

    return _list([entry.to_json() for entry in available_datasets()], options.json, ("name", "summary", "licence"))


def _techniques(options: argparse.Namespace) -> int:
    from workbench.techniques import TECHNIQUES

    entries = [technique.to_json() for technique in TECHNIQUES.values()]
    return _list(entries, options.json, ("name", "cost_class", "summary"))


def _devices(options: argparse.Namespace) -> int:
    from workbench.measure.latency.device import available_devices

    return _list(available_devices(), options.json, ("name", "kind", "summary"))


def _list(entries: list[dict[str, Any]], as_json: bool, columns: tuple[str, ...]) -> int:
    if as_json:
        print(json.dumps(entries, indent=1))
        return 0
    rows = [[_cell(entry.get(column)) for column in columns] for entry in entries]
    widths = [max(len(row[index]) for row in rows) for index in range(len(columns))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2%}"
    if isinstance(value, int):
        return f"{value:,}"
    return "–" if value is None else str(value)


def _app(options: argparse.Namespace) -> int:
    from importlib import import_module

    try:
        serving = import_module("widgets.serving")
    except ImportError as error:
        raise WorkbenchError(f"The app needs '{error.name}': install compression-workbench[app].") from error
    try:
        serving.serve(
            serving.Options(
                port=options.port,
                ip=options.ip,
                base_url=options.base_url,
                open_browser=not options.no_browser,
                spare=options.pool,
                max_kernels=options.max_kernels,
                data_folders=tuple(options.data_folder),
            )
        )
    except serving.ServingError as error:
        raise WorkbenchError(str(error)) from error
    return 0


if __name__ == "__main__":
    sys.exit(main())
