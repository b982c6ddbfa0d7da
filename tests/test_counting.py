"""How many of what."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from workbench.counting import counted

ROOT = Path(__file__).parents[1]
#: Numbers of things that are written out although there may be one of them: a length that is asked for in words.
COUNTS = re.compile(r"\{len\((\w|\.)+\)(:,)?\} (layer|kernel|row|recipe|measurement|setting|stage|block|channel)s\b")


@pytest.mark.parametrize(
    ("number", "noun", "words"),
    [(0, "layer", "0 layers"), (1, "layer", "1 layer"), (1_234, "class", "1,234 classes"), (2, "epoch", "2 epochs")],
)
def test_one_is_singular(number: int, noun: str, words: str) -> None:
    assert counted(number, noun) == words


def test_no_sentence_counts_a_single_thing_in_the_plural() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for folder in ("workbench", "widgets")
        for path in (ROOT / folder).rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if COUNTS.search(line) and " of {len(" not in line
    ]
    assert not found, f"use workbench.counting.counted: {', '.join(found)}"
