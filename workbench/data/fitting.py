"""Images brought to the size and the channels that a model takes, where they can be."""

from __future__ import annotations

import os
from pathlib import Path

from workbench.errors import WorkbenchError

from .dataset import Dataset


def load_fitting(source: object, shape: tuple[int, ...] | None, classes: tuple[str, ...] = ()) -> Dataset:
    """Return ``source`` as ``load_dataset`` does, a folder's or a table's images brought to ``shape`` ``(C, H, W)``.

    What can't be resized comes as it is. The labels follow the order of ``classes``, the model's, where it has the
    same ones (see ``Dataset.in_order``).
    """
    from .load import load_dataset

    path = Path(source).expanduser() if isinstance(source, str | os.PathLike) else None
    images = path is not None and (path.is_dir() or path.suffix.lower() == ".parquet")
    if images and shape is not None and len(shape) == 3 and shape[0] in (1, 3):
        try:
            return load_dataset(source, image_size=(shape[1], shape[2]), channels=shape[0]).in_order(classes)
        except WorkbenchError:
            pass  # arrays cannot be resized, and what else is wrong is said below
    return load_dataset(source).in_order(classes)
