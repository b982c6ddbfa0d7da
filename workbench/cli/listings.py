"""``workbench models|datasets|techniques|devices``: what there is."""

from __future__ import annotations

import argparse
import json
from typing import Any

from .common import Verbs, add_json


def add(verbs: Verbs[Any]) -> None:
    """Declare the verbs."""
    listings = (
        ("models", _models, "list the zoo"),
        ("datasets", _datasets, "list the named data sets"),
        ("techniques", _techniques, "list the techniques and their settings"),
        ("devices", _devices, "list the devices latency is known for"),
    )
    for name, run, text in listings:
        listing = verbs.add_parser(name, help=text)
        add_json(listing)
        listing.set_defaults(run=run)


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
    from workbench.measure.devices import targets
    from workbench.measure.latency.device import available_devices

    entries = [*available_devices(), *(target.to_json() for target in targets())]
    return _list(entries, options.json, ("name", "kind", "summary"))


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
