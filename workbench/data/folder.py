"""A folder of images with a subfolder per class, or with such folders for train, validation and test.

Images that lie in no subfolder have no label.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from workbench.errors import WorkbenchError

from .assemble import Part, assemble
from .checks import shown
from .dataset import Dataset
from .decode import Encoded, decode
from .naming import SPELLINGS
from .options import Options

IMAGE_SUFFIXES = {
    ".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pnm",
}  # fmt: skip


def load_folder(folder: Path, options: Options) -> Dataset:
    """Return the images under ``folder``; the subfolders' names are the classes, in sorted order.

    ``folder/CLASS/*.png`` is one set, which is cut (see ``assemble``); ``folder/train/CLASS/*.png`` with
    ``test`` and ``val`` beside it (or some of them) keeps those sets. Files deeper down belong to their
    class; hidden files and files that are no images are left out, with a note. ``folder/*.png`` and
    ``folder/test/*.png`` are images without labels.
    """
    files: dict[str, list[tuple[str | None, Path]]] = {}
    others: list[Path] = []
    for split, base in _sets(folder).items():
        files[split], strangers = _labelled(base, may_be_empty=options.classes is not None)
        others += strangers
    encoded: list[Encoded] = [(shown(path), path) for found in files.values() for _, path in found]
    images, remarks = decode(encoded, options, f"folder '{shown(folder)}'")
    parts, start = {}, 0
    for split, found in files.items():
        parts[split] = Part(images[start : start + len(found)], [name for name, _ in found])
        start += len(found)
    notes = [*_left_out(others), *remarks]
    return assemble(shown(folder.resolve().name), parts, options, source=shown(folder), notes=notes)


def _sets(folder: Path) -> dict[str, Path]:
    """The folder of each set; a folder without such subfolders is itself the one set."""
    inner = _subfolders(folder)
    named = {path: SPELLINGS[path.name.lower()] for path in inner if path.name.lower() in SPELLINGS}
    # "train" may also be a class, beside "bus": a set has classes inside (or no labels), and no images beside it
    is_layout = any(_subfolders(path) for path in named) or len(named) == len(inner) > 0
    is_layout = is_layout and not any(_images(path)[0] for path in inner if path not in named)
    if not is_layout:
        return {"train": folder}
    twice = [split for split, count in Counter(named.values()).items() if count > 1]
    if twice:
        raise WorkbenchError(f"Folder '{shown(folder)}' has more than one folder for the {twice[0]} set; keep one.")
    found = {split: path for path, split in named.items()}
    return {split: found[split] for split in ("train", "validation", "test") if split in found}


def _labelled(base: Path, *, may_be_empty: bool) -> tuple[list[tuple[str | None, Path]], list[Path]]:
    """The images of one set with the names of their classes (None: unlabelled), and the files that are no images."""
    labelled: list[tuple[str | None, Path]] = []
    others: list[Path] = []
    loose = _loose(base)
    if loose and not any(_images(folder)[0] for folder in _subfolders(base)):
        return [(None, path) for path in loose], []
    for folder in _subfolders(base):
        images, strangers = _images(folder)
        if not images and not may_be_empty:
            raise WorkbenchError(f"Folder '{shown(folder)}' has no images; add some or remove the folder.")
        labelled += [(shown(folder.name), path) for path in images]
        others += strangers
    if not labelled:
        raise WorkbenchError(
            f"Folder '{shown(base)}' has no images; it needs a subfolder of images for each class, or images."
        )
    return labelled, others


def _subfolders(folder: Path) -> list[Path]:
    try:
        inside = [path for path in folder.iterdir() if path.is_dir() and not _hidden(path.name)]
    except OSError as error:
        raise WorkbenchError(f"Folder '{shown(folder)}' cannot be read: {error.strerror}.") from None
    return sorted(inside, key=lambda path: path.name)


def _images(folder: Path) -> tuple[list[Path], list[Path]]:
    images, others = [], []
    for base, names, files in os.walk(folder):
        names[:] = sorted(name for name in names if not _hidden(name))
        for file in sorted(files):
            path = Path(base, file)
            special = path.exists() and not path.is_file()  # a pipe would be waited for
            if path.suffix.lower() in IMAGE_SUFFIXES and not _hidden(file) and not special:
                images.append(path)
            elif not _hidden(file) and file != "Thumbs.db":
                others.append(path)
    return images, others


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _left_out(others: list[Path]) -> list[str]:
    if not others:
        return []
    many = f"{len(others):,} files are" if len(others) > 1 else "1 file is"
    return [f"{many} no image and left out, such as '{shown(others[0].name)}'."]


def _loose(folder: Path) -> list[Path]:
    """The images that lie in ``folder`` itself."""
    inside = (path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and not _hidden(path.name))
    return sorted(path for path in inside if path.is_file())
