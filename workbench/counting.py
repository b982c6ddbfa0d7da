"""How many of what, in words: ``1 layer``, ``1,234 layers``, ``2 classes``."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return ``number`` with thousands apart, and ``noun`` in the plural where there is not one.

    >>> counted(1, "process"), counted(2_000, "process")
    ('1 process', '2,000 processes')
    """
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun}{'es' if noun.endswith(('s', 'x')) else 's'}"
