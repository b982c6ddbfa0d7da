"""How sets are named in folders, files and arrays: train, validation, test and their other spellings."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

SPELLINGS = {
    "train": "train", "training": "train",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip

_LONGEST_FIRST = "|".join(sorted(SPELLINGS, key=len, reverse=True))
#: What numbers the parts of a set, as in ``train-00000-of-00002``; some add a hash.
_SHARD = re.compile(r"-\d+-of-\d+(-[0-9a-f]{16})?(?=\.|$)")
_WORD = re.compile(rf"(?<![a-z])({_LONGEST_FIRST})(?![a-z])", re.IGNORECASE)


def split_of(name: str) -> str | None:
    """Return which set a name speaks of (``x_train``, ``test-00000-of-00001``, ``val``), if any."""
    found = _WORD.search(name)
    return SPELLINGS[found[0].lower()] if found else None


def without_split(name: str) -> str:
    """Return the name with its word for the set replaced, so that siblings read the same."""
    return _WORD.sub("*", name, count=1)


def siblings(path: Path) -> dict[str, list[Path]]:
    """Return the files of each set that belong to ``path``: itself, and those beside it named alike.

    ``train.parquet`` finds ``test.parquet``; ``shards-train-0.npz`` finds ``shards-test-0.npz``;
    ``train-00000-of-00002.parquet`` finds all parts of every set, however many each has. A file whose name speaks of
    no set stands alone, as train.
    """
    own = split_of(path.stem)
    if own is None:
        return {"train": [path]}
    pattern = _kind(path)
    return group(other for other in path.parent.glob(f"*{path.suffix}") if _kind(other) == pattern)


def _kind(path: Path) -> str:
    """What the files of all sets and of their parts have in common."""
    return _SHARD.sub("", without_split(path.name))


def group(paths: Iterable[Path]) -> dict[str, list[Path]]:
    """Return files by the set their names speak of, each list sorted by name; the others left out."""
    groups: dict[str, list[Path]] = {}
    for path in sorted(paths):
        split = split_of(path.stem)
        if split is not None:
            groups.setdefault(split, []).append(path)
    return groups
