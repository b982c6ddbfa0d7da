"""The records of the benches that take long: traceable, and told in the docs as they are."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from tests.bench import record, table
from tests.bench.synthetic import figures
from tests.bench.table import PAGE, RECORDS, page, read_records
from tests.bench.training import Run


def test_the_page_of_records_is_made_from_the_records() -> None:
    assert PAGE.read_text() == page(), "run: python -m tests.bench.table"


def test_a_record_is_on_the_page_as_soon_as_it_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (record, table):
        monkeypatch.setattr(module, "RECORDS", tmp_path / "records")
    monkeypatch.setattr(table, "PAGE", tmp_path / "records.md")
    record.keep("made", [record.Figure("Speed", "≥ 1", "2", True)], data="fashion_mnist", seeds=[0], seconds=1)
    assert "| Speed | ≥ 1 | 2 | reached | fashion_mnist | 0 | 1 |" in (tmp_path / "records.md").read_text()


@pytest.mark.parametrize("name", read_records())
def test_a_record_says_how_it_came_about_and_nothing_of_where(name: str) -> None:
    kept = read_records()[name]
    module = kept["command"].split()[2]
    assert importlib.util.find_spec(module), "a command that is there to be given again"
    assert kept["seeds"]
    assert {run["seed"] for run in kept["runs"] if "seed" in run} <= set(kept["seeds"])
    assert kept["seconds"] > 0
    assert {"python", "torch"} <= kept["versions"].keys()
    assert kept["figures"]
    assert not re.search(r"(?<![\w.*])/(tmp|home|work|root|usr)/", (RECORDS / f"{name}.json").read_text())


def test_made_images_are_compared_by_source_and_what_was_not_come_to_is_said() -> None:
    def run(label: str, seed: int, test: float) -> Run:
        return Run("lenet5", label, [], seed, 92.0, 92.0, test, 1, 1.0, 0.0)

    runs = [run(f"2 bit, AdaRound, {source}", seed, test) for source, seed, test in [
        ("real, 100", 0, 89.0), ("mixup", 0, 90.0), ("real, 100", 1, 88.5),
    ]]  # fmt: skip
    nothing, compared, left = figures(run("without any image", 0, 80.0), runs, [(1, "mixup"), (2, "gan"), (2, "mixup")])
    assert nothing.measured == "12.00 points lost"
    assert compared.what == "2 bit, AdaRound, lenet5"
    assert compared.measured == "points lost: mixup 2.00; real, 100 3.00 to 3.50"
    assert left.measured == "mixup (seed 1); gan, mixup (seed 2)"
    assert len(figures(run("without any image", 0, 80.0), runs, [])) == 2
