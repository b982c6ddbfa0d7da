"""The datasets that have a name, listed without importing torch. A new one is a new file and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .dataset import Dataset


@dataclass(frozen=True)
class Entry:
    """What is known of a named dataset before it is loaded. ``images``: how many in each split."""

    name: str
    summary: str
    images: Mapping[str, int]
    image_shape: tuple[int, int, int]
    classes: tuple[str, ...]
    source: str
    licence: str
    loader: str

    def load(self) -> Dataset:
        """Import the loader and return the dataset."""
        module, function = self.loader.split(":")
        dataset: Dataset = getattr(import_module(module), function)()
        return dataset

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {key: value for key, value in asdict(self).items() if key != "loader"}


FASHION_CLASSES = (
    "T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_ZALANDO = "Fashion-MNIST, Xiao, Rasul and Vollgraf 2017, Zalando SE"

ENTRIES = (
    Entry(
        "fashion_mnist",
        "Photographs of garments, grey, 28×28; bundled, with a part of the training images.",
        {"train": 10_000, "calibration": 1_000, "validation": 5_000, "test": 10_000},
        (1, 28, 28),
        FASHION_CLASSES,
        _ZALANDO,
        "MIT",
        "workbench.data.fashion_mnist:load_bundled",
    ),
    Entry(
        "fashion_mnist:full",
        "The same with all 55,000 training images; from Debian's dataset-fashion-mnist, or fetched (26 MB).",
        {"train": 55_000, "calibration": 1_000, "validation": 5_000, "test": 10_000},
        (1, 28, 28),
        FASHION_CLASSES,
        _ZALANDO,
        "MIT",
        "workbench.data.fashion_mnist:load_full",
    ),
    Entry(
        "digits",
        "Handwritten digits, grey, 8×8; comes with scikit-learn.",
        {"train": 1_079, "calibration": 999, "validation": 359, "test": 359},
        (1, 8, 8),
        tuple("0123456789"),
        "Optical recognition of handwritten digits, Alpaydin and Kaynak 1998, UCI",
        "CC BY 4.0",
        "workbench.data.digits:load_digits",
    ),
)


def available_datasets() -> tuple[Entry, ...]:
    """Return the named datasets; folders, files and data in memory need no entry."""
    return ENTRIES
