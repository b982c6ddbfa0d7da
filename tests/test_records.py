"""The records of the benches that take long: traceable, and told in the docs as they are."""

from __future__ import annotations

import importlib.util
import re

import pytest

from tests.bench.record import RECORDS, read_records
from tests.bench.table import PAGE, page


def test_the_page_of_records_is_made_from_the_records() -> None:
    assert PAGE.read_text() == page(), "run: python -m tests.bench.table"


@pytest.mark.parametrize("name", read_records())
def test_a_record_says_how_it_came_about_and_nothing_of_where(name: str) -> None:
    record = read_records()[name]
    module = record["command"].split()[2]
    assert importlib.util.find_spec(module), "a command that is there to be given again"
    assert record["seeds"]
    assert record["seconds"] > 0
    assert {"python", "torch"} <= record["versions"].keys()
    assert record["figures"]
    assert not re.search(r"(?<![\w.*])/(tmp|home|work|root|usr)/", (RECORDS / f"{name}.json").read_text())
