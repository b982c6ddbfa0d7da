"""Fashion-MNIST (Xiao, Rasul and Vollgraf 2017, MIT licence): the bundled part and the full set.

The bundle holds all 10,000 test images and, from the 60,000 training images, a fixed validation
split of 5,000 and 10,000 images to train on, every class equally often. The full set adds the other
45,000 training images; it is read where Debian's ``dataset-fashion-mnist`` puts it, or fetched once
with a checksum. ``python -m workbench.data.fashion_mnist DIR`` makes the bundle again.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import sys
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from workbench.errors import WorkbenchError

from .catalog import FASHION_CLASSES as CLASSES
from .checks import shown
from .dataset import Dataset, Normalization, Split
from .paths import BUNDLED, cache_folder

NORMALIZATION = Normalization((0.2860,), (0.3530,))
SOURCE = "Fashion-MNIST, Zalando SE 2017, MIT licence"

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
URL = "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/"
#: MD5 of each file as published (its README's table), by which a download is checked.
PUBLISHED_MD5 = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
#: SHA-256 of the content, decompressed: Debian packs the same bytes with another gzip.
CONTENT_SHA256 = {
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
CALIBRATION_IMAGES = 1_000
SPLIT_SEED = 20170825


def load_bundled() -> Dataset:
    """Return the bundled part: 10,000 test, 5,000 validation, 10,000 training images."""
    return _dataset("fashion_mnist", _read_split("train"), _read_split("validation"), _read_split("test"))


def load_full() -> Dataset:
    """Return the same test and validation splits with all other 55,000 images to train on."""
    images, labels = _read_original("train")
    keep = torch.ones(len(labels), dtype=torch.bool)
    keep[torch.from_numpy(_read_bundled("validation")["index"].astype(np.int64))] = False
    train = Split("train", torch.from_numpy(images)[keep].unsqueeze(1), torch.from_numpy(labels)[keep])
    return _dataset("fashion_mnist:full", train, _read_split("validation"), _read_split("test"))


def make_bundle(folder: Path) -> None:
    """Write ``train.npz``, ``validation.npz``, ``test.npz`` and ``SHA256SUMS`` to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = _read_original("train")
    order = np.random.Generator(np.random.PCG64(SPLIT_SEED)).permutation(len(labels))
    by_class = [order[labels[order] == label] for label in range(len(CLASSES))]
    validation = np.sort(np.concatenate([members[:500] for members in by_class]))
    train = np.sort(np.concatenate([members[500:1500] for members in by_class]))
    for name, index in (("validation", validation), ("train", train)):
        _write_split(folder / f"{name}.npz", images[index], labels[index], index)
    images, labels = _read_original("t10k")
    _write_split(folder / "test.npz", images, labels, np.arange(len(labels)))
    sums = [f"{_sha256(path)}  {path.name}\n" for path in sorted(folder.glob("*.npz"))]
    (folder / "SHA256SUMS").write_text("".join(sums))


def _dataset(name: str, train: Split, validation: Split, test: Split) -> Dataset:
    calibration = torch.cat(
        [
            (train.labels == label).nonzero().flatten()[: CALIBRATION_IMAGES // len(CLASSES)]
            for label in range(len(CLASSES))
        ]
    )
    splits = {
        "train": train,
        "calibration": train.take(calibration, "calibration"),
        "validation": validation,
        "test": test,
    }
    return Dataset(name, splits, CLASSES, NORMALIZATION, SOURCE)


def _read_split(name: str) -> Split:
    arrays = _read_bundled(name)
    images = torch.from_numpy(arrays["images"]).unsqueeze(1)
    return Split(name, images, torch.from_numpy(arrays["labels"].astype(np.int64)))


def _read_bundled(name: str) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of a bundled file whose bytes have the SHA-256 that is written beside it."""
    path = BUNDLED / "fashion_mnist" / f"{name}.npz"
    try:
        sums = dict(line.split()[::-1] for line in (path.parent / "SHA256SUMS").read_text().splitlines())
        raw = path.read_bytes()
        if hashlib.sha256(raw).hexdigest() != sums[path.name]:
            raise ValueError("its SHA-256 differs")
    except (OSError, KeyError, ValueError) as error:
        raise WorkbenchError(
            f"The bundled file '{shown(path)}' is missing or damaged ({_reason(error)}); install the project again."
        ) from None
    with np.load(io.BytesIO(raw), allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays.files}


def _write_split(path: Path, images: NDArray[np.uint8], labels: NDArray[np.int64], index: NDArray[np.int64]) -> None:
    np.savez_compressed(path, images=images, labels=labels.astype(np.uint8), index=index.astype(np.int32))


def _read_original(part: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    images = _read_idx(_locate(f"{part}-images-idx3-ubyte.gz"))
    labels = _read_idx(_locate(f"{part}-labels-idx1-ubyte.gz"))
    return images, labels.astype(np.int64)


def _locate(name: str) -> Path:
    """Return where Debian put the file, or where it was fetched to."""
    installed = DEBIAN / name
    if installed.exists():
        return installed
    folder = cache_folder("fashion_mnist")
    try:
        import pooch

        fetched = pooch.retrieve(URL + name, known_hash=f"md5:{PUBLISHED_MD5[name]}", fname=name, path=folder)
    except Exception as error:  # no pooch, no network, no space, or another file than expected
        raise WorkbenchError(
            f"The full Fashion-MNIST could not be fetched from {URL} ({_reason(error)}); install Debian's "
            f"dataset-fashion-mnist, or put {name} into '{shown(folder)}'."
        ) from None
    return Path(fetched)


def _read_idx(path: Path) -> NDArray[np.uint8]:
    try:
        raw = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise WorkbenchError(
            f"File '{shown(path)}' cannot be read: {_reason(error)}; remove it and try again."
        ) from None
    if hashlib.sha256(raw).hexdigest() != CONTENT_SHA256[path.name]:
        raise WorkbenchError(f"File '{shown(path)}' does not hold what was published; remove it and try again.")
    dimensions = raw[3]
    shape = np.frombuffer(raw, ">u4", dimensions, 4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * dimensions).reshape(shape).copy()


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    make_bundle(Path(sys.argv[1]) if len(sys.argv) > 1 else BUNDLED / "fashion_mnist")
