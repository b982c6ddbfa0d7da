"""The records of the benches that take long: traceable, and told in the docs as they are."""

from __future__ import annotations

import importlib.util
import re

import pytest

from tests.bench.record import RECORDS, read_records
from tests.bench.synthetic import figures
from tests.bench.table import PAGE, page
from tests.bench.training import Run


def test_the_page_of_records_is_made_from_the_records() -> None:
    assert PAGE.read_text() == page(), "run: python -m tests.bench.table"


@pytest.mark.parametrize("name", read_records())
def test_a_record_says_how_it_came_about_and_nothing_of_where(name: str) -> None:
    record = read_records()[name]
    module = record["command"].split()[2]
    assert importlib.util.find_spec(module), "a command that is there to be given again"
    assert record["seeds"]
    assert {run["seed"] for run in record["runs"] if "seed" in run} <= set(record["seeds"])
    assert record["seconds"] > 0
    assert {"python", "torch"} <= record["versions"].keys()
    assert record["figures"]
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
