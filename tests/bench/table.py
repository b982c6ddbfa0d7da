"""``docs/records.md``, made from the records of the benches: by each of them, or ``python -m tests.bench.table``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RECORDS = Path(__file__).parent / "records"
PAGE = Path(__file__).parents[2] / "docs" / "records.md"
HEAD = """# Records

What the benches that take long have measured, made from `tests/bench/records/` by `python -m tests.bench.table`.
Accuracies are those of the test split; everything that is chosen is chosen on the validation split. Seconds are \
those of training on a machine that was also used for other work. “–” must reach nothing: the figure is the answer.

"""
COLUMNS = ("figure", "must be", "measured", "", "data", "seeds", "seconds", "command")
VERDICTS = {True: "reached", False: "**missed**", None: ""}


EXPORTS = """
## Exports

Each model of the zoo in each format, judged in the format's own runtime on this machine: accuracy there and of the \
torch simulation of the same recipe, in percent, on so many test images; size of all files; milliseconds of an image \
on one thread, beside other work. “–”: not run here.

"""
EXPORT_COLUMNS = ("model", "format", "accuracy", "simulated", "same answers", "images", "bytes", "ms", "int8 kernels")


def read_records() -> dict[str, dict[str, Any]]:
    """Return all records by their names, in alphabetical order."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(RECORDS.glob("*.json"))}


def write_page() -> None:
    """Make the page anew."""
    PAGE.write_text(page())


def page() -> str:
    """Return the page's Markdown."""
    records = read_records()
    rows = [row for record in records.values() for row in _rows(record)]
    about = sorted({_about(record) for record in records.values()})
    told = "\n\nMeasured on: " + "; ".join(about) + ".\n"
    exported = [
        _export(name.removeprefix("exports_"), run)
        for name, record in records.items()
        if name.startswith("exports_")
        for run in record["runs"]
    ]
    return HEAD + _table(COLUMNS, rows) + told + EXPORTS + _table(EXPORT_COLUMNS, exported) + "\n"


def _export(model: str, run: dict[str, Any]) -> list[str]:
    why = run.get("failed") or run.get("refused")
    if why:
        return [model, run["format"], why, *["–"] * (len(EXPORT_COLUMNS) - 3)]
    known = "accuracy" in run
    kernels = f"{run['int8_kernels']} of {run['kernels']}" if run.get("kernels") else "–"
    return [
        model, run["format"], f"{run['accuracy']:.2f}" if known else "–", f"{run['simulated']:.2f}",
        f"{run['agreement']:.2f}" if known else "–", f"{run['images']:,}", f"{run['bytes']:,}",
        f"{run['ms']:.2f}" if run.get("ms") else "–", kernels,
    ]  # fmt: skip


def _table(columns: tuple[str, ...], rows: list[list[str]]) -> str:
    return "\n".join([_line(columns), _line(["---"] * len(columns)), *map(_line, rows)])


def _rows(record: dict[str, Any]) -> list[list[str]]:
    seeds = ", ".join(map(str, record["seeds"]))
    return [
        [
            figure["what"], figure["must"] or "–", figure["measured"], VERDICTS[figure["reached"]], record["data"],
            seeds, f"{record['seconds']:,}", f"`{record['command']}`",
        ]
        for figure in record["figures"]
    ]  # fmt: skip


def _about(record: dict[str, Any]) -> str:
    return record["machine"] + ", " + ", ".join(f"{name} {one}" for name, one in record["versions"].items())


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    write_page()
