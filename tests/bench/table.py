"""Make ``docs/records.md`` from the records of the benches: ``python -m tests.bench.table``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tests.bench.record import read_records

PAGE = Path(__file__).parents[2] / "docs" / "records.md"
HEAD = """# Records

What the benches that take long have measured, made from `tests/bench/records/` by `python -m tests.bench.table`.
Accuracies are those of the test split; everything that is chosen is chosen on the validation split. Seconds are \
those of training on a machine that was also used for other work. “–” must reach nothing: the figure is the answer.

"""
COLUMNS = ("figure", "must be", "measured", "", "data", "seeds", "seconds", "command")
VERDICTS = {True: "reached", False: "**missed**", None: ""}


def page() -> str:
    """Return the page's Markdown."""
    rows = [row for record in read_records().values() for row in _rows(record)]
    lines = [_line(COLUMNS), _line(["---"] * len(COLUMNS)), *map(_line, rows)]
    about = sorted({_about(record) for record in read_records().values()})
    return HEAD + "\n".join(lines) + "\n\nMeasured on: " + "; ".join(about) + ".\n"


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


def main() -> int:
    """Write the page."""
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
