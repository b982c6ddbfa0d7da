"""NumPy archives: ``x`` and ``y``, ``images`` and ``labels``, or such a pair for each set (``x_train``).

Images alone have no labels.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.errors import WorkbenchError

from .assemble import Part, assemble
from .checks import as_text, require_memory, shown
from .dataset import Dataset
from .naming import siblings, split_of, without_split
from .options import Options

_IMAGES = ("images", "image", "imgs", "x", "data")
_LABELS = ("labels", "label", "targets", "target", "y")
_CLASSES = ("classes", "class_names", "label_names", "names")


def load_npz(path: Path, options: Options) -> Dataset:
    """Return the arrays of ``path``, and of files beside it that hold the other sets (``test.npz``).

    Class names are read from an array ``classes`` of strings. Nothing is ever unpickled.
    """
    arrays = read_arrays(path)
    files = siblings(path) if len(_parts(arrays, path)) == 1 else {"train": [path]}
    return load_archives(files, path, options, {path: arrays})


def load_archives(
    files: Mapping[str, list[Path]],
    path: Path,
    options: Options,
    known: Mapping[Path, Mapping[str, NDArray[Any]]] | None = None,
) -> Dataset:
    """Return the dataset of several archives a set (shards); ``path`` is what the person gave.

    ``known`` are the arrays of files that were read already. An array's name says which set it is of, or else its
    file's name.
    """
    options.only("classes", "normalization", "validation_share", "test_share", "seed", where="an .npz file")
    found: dict[str, list[tuple[Path, Part]]] = {}
    classes: tuple[str, ...] | None = None
    for split, archives in files.items():
        for file in archives:
            arrays = (known or {}).get(file) or read_arrays(file)
            for key, part in _parts(arrays, file).items():
                found.setdefault(split if key == "train" else key, []).append((file, part))
            classes = classes or _class_names(arrays)
    parts = {split: _joined(shards) for split, shards in found.items()}
    name = path.resolve().name if path.is_dir() else path.stem
    return assemble(name, parts, options, classes=classes, source=shown(path))


def _joined(shards: Sequence[tuple[Path, Part]]) -> Part:
    """Return the parts of one set as one; raise ``WorkbenchError`` where they are not alike."""
    (first, one), *others = shards
    if not others:
        return one
    images: list[NDArray[Any]] = [part.images for _, part in shards]  # type: ignore[misc]  # as read_arrays gave them
    labels: list[Any] = [part.labels for _, part in shards]
    for (file, _), pixels, told in zip(others, images[1:], labels[1:], strict=True):
        kinds = [None if entry is None else (entry.dtype.kind in "US", entry.shape[1:]) for entry in (labels[0], told)]
        if (pixels.dtype, pixels.shape[1:]) != (images[0].dtype, images[0].shape[1:]) or kinds[0] != kinds[1]:
            raise WorkbenchError(
                f"Files '{shown(first.name)}' and '{shown(file.name)}' are of one set, and their images or labels are "
                "of other types or sizes; make them alike, or keep one."
            )
    require_memory(2 * sum(pixels.nbytes for pixels in images), f"the set of '{shown(first.name)}'")
    return Part(np.concatenate(images), None if labels[0] is None else np.concatenate(labels))


def _class_names(arrays: Mapping[str, NDArray[Any]]) -> tuple[str, ...] | None:
    names = next((arrays[key] for key in _CLASSES if key in arrays and arrays[key].dtype.kind in "US"), None)
    return None if names is None else tuple(as_text(names).ravel().tolist())


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays in ``path``, never unpickling; raise ``WorkbenchError`` if that cannot be."""
    try:
        with zipfile.ZipFile(path) as archive:
            require_memory(sum(member.file_size for member in archive.infolist()), f"file '{shown(path)}'")
        with np.load(path, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except WorkbenchError:
        raise
    except Exception as error:  # zipfile, zlib, struct and the npy header's parser each raise their own
        if "pickle" in str(error).lower():
            raise WorkbenchError(
                f"File '{shown(path)}' holds Python objects (a pickle), which are never loaded; save plain "
                f"arrays of numbers."
            ) from None
        cut = isinstance(error, zipfile.BadZipFile)
        reason = "it is no zip archive, or damaged or cut short" if cut else shown(error) or type(error).__name__
        raise WorkbenchError(f"File '{shown(path)}' cannot be read as .npz: {reason}.") from None


def _parts(arrays: Mapping[str, NDArray[Any]], path: Path) -> dict[str, Part]:
    """The pair of each set; a pair whose names speak of no set is called train."""
    images, labels = (_by_set(arrays, names, path) for names in (_IMAGES, _LABELS))
    if not images or set(labels) - set(images) or (set(images) - set(labels) and _may_be_labels(arrays, images)):
        present = ", ".join(f"'{key}' of shape {array.shape}" for key, array in arrays.items()) or "nothing"
        raise WorkbenchError(
            f"File '{shown(path)}' holds {shown(present)}; it needs images and labels, as 'x' and 'y', "
            f"'images' and 'labels', or 'x_train', 'y_train', 'x_test', 'y_test'."
        )
    return {split: Part(images[split], labels.get(split)) for split in images}


def _may_be_labels(arrays: Mapping[str, NDArray[Any]], images: Mapping[str, NDArray[Any]]) -> bool:
    """Whether an array of another name could be labels: then it is asked for by name, rather than done without."""
    known = (*_IMAGES, *_LABELS, *_CLASSES)
    others = (array for key, array in arrays.items() if _bare(key) not in known)
    return any(array.ndim in (1, 2) and len(array) == len(each) for array in others for each in images.values())


def _by_set(arrays: Mapping[str, NDArray[Any]], names: tuple[str, ...], path: Path) -> dict[str, NDArray[Any]]:
    """Return the array of each set that has one of ``names``; raise ``WorkbenchError`` where two could be meant."""
    found: dict[str, str] = {}
    for key in arrays:
        if _bare(key) in names:
            split = split_of(key) or "train"
            if split in found:
                raise WorkbenchError(
                    f"File '{shown(path)}' holds '{shown(found[split])}' and '{shown(key)}', and either could be the "
                    f"{'images' if names is _IMAGES else 'labels'} of one set; leave one out, or rename it."
                )
            found[split] = key
    return {split: arrays[key] for split, key in found.items()}


def _bare(key: str) -> str:
    return without_split(key.lower()).replace("*", "").strip("_-. ")
