"""``load_dataset``: whatever a person has, as a ``Dataset``.

Each kind of source has its loader in a file of its own; ``FILES`` and ``catalog.ENTRIES`` are where
they are registered.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from workbench.counting import counted
from workbench.errors import WorkbenchError

from .arrays import is_in_memory, load_in_memory
from .catalog import Entry, available_datasets
from .checks import shown
from .dataset import Dataset, Normalization
from .folder import load_folder
from .naming import group
from .npz import load_archives, load_npz
from .options import Options, as_image_size, as_normalization
from .parquet import load_parquet, load_tables

__all__ = ["Entry", "available_datasets", "load_dataset"]

#: suffix -> loader of such a file.
FILES: dict[str, Callable[[Path, Options], Dataset]] = {
    ".npz": load_npz,
    ".parquet": load_parquet,
}


def load_dataset(
    source: object,
    *,
    classes: Sequence[str] | None = None,
    normalization: Normalization | tuple[object, object] | None = None,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    validation_share: float = 0.2,
    test_share: float = 0.2,
    seed: int = 0,
) -> Dataset:
    """Return ``source`` as a dataset with splits train, calibration, validation and test.

    ``source`` is a name (see ``available_datasets``), a folder of images with a subfolder per class, an
    ``.npz`` or ``.parquet`` file (or a folder of them), a torch ``Dataset`` or ``DataLoader``, images and
    labels ``(x, y)``, a mapping of those by set, or a ``Dataset``, which passes through. Labels may be missing from
    any of these: then accuracy is not known, but agreement with the dense model is.

    Sets that are missing are cut, by class and fixed by ``seed`` (see ``assemble``). uint8 images are
    normalised by their training mean and std unless ``normalization`` says otherwise; float images are used
    as they are. The dataset's ``notes`` say what was done. See ``Options`` for the settings.

    Raises ``WorkbenchError``, in one sentence, for a source that is not there or cannot be used.

    >>> data = load_dataset("fashion_mnist")
    >>> len(data["test"]), data.classes[1]
    (10000, 'Trouser')
    """
    options = Options(
        tuple(str(name) for name in classes) if classes is not None else None,
        as_normalization(normalization),
        as_image_size(image_size),
        channels,
        validation_share,
        test_share,
        seed,
    )
    if isinstance(source, Dataset):
        return _with(source, options, f"dataset '{source.name}', which is loaded already")
    if isinstance(source, (str, os.PathLike)):
        return _load_named(source, options)
    if is_in_memory(source):
        return load_in_memory(source, options)
    raise WorkbenchError(
        f"Data cannot be read from {_article(type(source).__name__)}; give a name, a folder, an .npz or "
        f".parquet file, a torch Dataset or DataLoader, images and labels (x, y), or images."
    )


def _load_named(source: str | os.PathLike[str], options: Options) -> Dataset:
    for entry in available_datasets():
        if source == entry.name:
            return _with(entry.load(), options, f"'{entry.name}', whose splits are fixed")
    path = Path(source).expanduser()
    try:
        there = path.exists()
    except (OSError, ValueError):  # a name too long, or with a null byte
        there = False
    if not there:
        raise WorkbenchError(_not_there(os.fspath(source)))
    if path.is_dir():
        return _load_directory(path, options)
    if path.suffix.lower() in FILES and path.is_file():
        return FILES[path.suffix.lower()](path, options)
    pickled = " (pickled files are never loaded)" if path.suffix.lower() in {".pt", ".pth", ".pkl"} else ""
    raise WorkbenchError(
        f"File '{shown(path)}' is no kind of data known here{pickled}; give {' or '.join(FILES)}, or a "
        f"folder of images."
    )


def _load_directory(folder: Path, options: Options) -> Dataset:
    """A folder of tables or archives named after their sets, or else of images."""
    tables = group(folder.glob("*.parquet"))
    if tables:
        return load_tables(tables, folder, options)
    archives = group(folder.glob("*.npz"))
    if archives:
        return load_archives(archives, folder, options)
    return load_folder(folder, options)


def _with(dataset: Dataset, options: Options, where: str) -> Dataset:
    options.only("normalization", where=where)
    if options.normalization is None:
        return dataset
    if len(options.normalization.mean) not in (1, dataset.image_shape[0]):
        raise WorkbenchError(
            f"The normalisation has {counted(len(options.normalization.mean), 'channel')} and the images of dataset "
            f"'{dataset.name}' have {dataset.image_shape[0]}."
        )
    return dataclasses.replace(dataset, normalization=options.normalization)


def _not_there(source: str) -> str:
    names = [entry.name for entry in available_datasets()]
    if "/" in source or os.sep in source or Path(source).suffix.lower() in FILES:
        return f"There is no file or folder '{shown(source)}'."
    near = difflib.get_close_matches(source, names, 1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return f"There is no dataset or folder '{shown(source)}'; the named datasets are {', '.join(names)}.{hint}"


def _article(name: str) -> str:
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
