"""What is already in memory: ``(x, y)`` pairs, images alone, torch datasets, and mappings of them by set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from workbench.errors import WorkbenchError

from .assemble import Part, assemble
from .checks import capital
from .dataset import Dataset
from .naming import SPELLINGS
from .options import Options
from .torch_data import is_torch_data, read_torch_data


def is_in_memory(source: object) -> bool:
    """Whether ``source`` is something this file loads."""
    return is_torch_data(source) or isinstance(source, (Mapping, tuple, list)) or _are_images(source)


def load_in_memory(source: object, options: Options) -> Dataset:
    """Return the dataset of a pair ``(x, y)``, images ``x``, a torch ``Dataset`` or ``DataLoader``, or several.

    Several are a mapping ``{"train": ..., "test": ...}``, or ``((x, y), (x_test, y_test))``.
    """
    options.only("classes", "normalization", "validation_share", "test_share", "seed", where="images in memory")
    given = _by_set(source)
    parts, classes = {}, None
    for split, item in given.items():
        what = f"the {split} set" if len(given) > 1 else "the data"
        if is_torch_data(item):
            parts[split], names = read_torch_data(item, what)
            classes = classes or names
        else:
            parts[split] = Part(*_pair(item, what))
    return assemble(_name(given), parts, options, classes=classes, source="in memory")


def _by_set(source: object) -> dict[str, Any]:
    if isinstance(source, Mapping):
        unknown = [key for key in source if str(key).lower() not in SPELLINGS]
        if unknown or not source:
            raise WorkbenchError(
                f"A mapping of data has the keys train, validation and test, not "
                f"{', '.join(map(repr, unknown)) or 'none'}."
            )
        return {SPELLINGS[str(key).lower()]: item for key, item in source.items()}
    if isinstance(source, (tuple, list)) and len(source) in (2, 3) and all(map(_is_set, source)):
        names = ("train", "test") if len(source) == 2 else ("train", "validation", "test")
        return dict(zip(names, source, strict=True))
    return {"train": source}


def _is_set(item: object) -> bool:
    """Whether an element is itself a set: torch data, or a pair whose images have pixels."""
    return is_torch_data(item) or (
        isinstance(item, (tuple, list)) and len(item) == 2 and getattr(item[0], "ndim", 0) >= 3
    )


def _pair(item: object, what: str) -> tuple[object, object]:
    if isinstance(item, (tuple, list)) and len(item) in (1, 2):
        return item[0], item[1] if len(item) == 2 else None
    if _are_images(item):
        return item, None
    raise WorkbenchError(f"{capital(what)} must be a pair (images, labels), or images, not {type(item).__name__}.")


def _are_images(item: object) -> bool:
    """Whether ``item`` is an array or a tensor of images."""
    return isinstance(item, (np.ndarray, Tensor)) and item.ndim >= 3


def _name(given: Mapping[str, object]) -> str:
    """The class name of a torch dataset, else ``arrays``."""
    first = next(iter(given.values()))
    dataset = getattr(first, "dataset", first)
    return type(dataset).__name__ if is_torch_data(first) else "arrays"
