"""NumPy archives: ``x`` and ``y``, ``images`` and ``labels``, or such a pair for each set (``x_train``).

Images alone have no labels.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.errors import WorkbenchError

from .assemble import Part, assemble
from .checks import require_memory, shown
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
    options.only("classes", "normalization", "validation_share", "test_share", "seed", where="an .npz file")
    arrays = read_arrays(path)
    parts = _parts(arrays, path)
    if set(parts) == {"train"}:
        parts = {}
        for split, files in siblings(path).items():
            if len(files) > 1:
                raise WorkbenchError(f"There is more than one {split} set beside '{shown(path)}'; keep one.")
            parts |= {split: _parts(arrays if files[0] == path else read_arrays(files[0]), files[0])["train"]}
    names = next((arrays[key] for key in _CLASSES if key in arrays and arrays[key].dtype.kind in "US"), None)
    classes = None if names is None else tuple(names.astype(str).ravel().tolist())
    return assemble(path.stem, parts, options, classes=classes, source=shown(path))


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
    images, labels = (_by_set(arrays, names) for names in (_IMAGES, _LABELS))
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


def _by_set(arrays: Mapping[str, NDArray[Any]], names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    found = {}
    for key, array in arrays.items():
        if _bare(key) in names:
            found[split_of(key) or "train"] = array
    return found


def _bare(key: str) -> str:
    return without_split(key.lower()).replace("*", "").strip("_-. ")
