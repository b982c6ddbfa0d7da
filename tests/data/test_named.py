"""The datasets that have a name: what the catalog says is what is loaded."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from workbench.data import fashion_mnist
from workbench.data.catalog import available_datasets
from workbench.data.cut import repeats
from workbench.data.dataset import Normalization
from workbench.data.load import load_dataset
from workbench.data.paths import BUNDLED
from workbench.errors import WorkbenchError

HAVE_FULL = fashion_mnist.DEBIAN.exists()
needs_full = pytest.mark.skipif(not HAVE_FULL, reason="Debian's dataset-fashion-mnist is not installed")
NAMES = [
    pytest.param(entry.name, marks=needs_full if entry.name.endswith(":full") else ()) for entry in available_datasets()
]


@pytest.mark.parametrize("name", NAMES)
def test_the_catalog_says_what_is_loaded(name: str) -> None:
    entry = next(entry for entry in available_datasets() if entry.name == name)
    data = load_dataset(name)
    assert data.name == name
    assert {split: len(part) for split, part in data.splits.items()} == dict(entry.images)
    assert data.classes == entry.classes
    assert data.image_shape == entry.image_shape


@pytest.mark.parametrize("name", NAMES)
def test_no_image_is_in_two_splits(name: str) -> None:
    assert repeats(load_dataset(name).splits) == []


@pytest.mark.parametrize("name", NAMES)
def test_calibration_is_a_part_of_train(name: str) -> None:
    data = load_dataset(name)
    train = {image.numpy().tobytes() for image in data["train"].images}
    assert {image.numpy().tobytes() for image in data["calibration"].images} <= train


def test_the_splits_of_named_datasets_never_change() -> None:
    """Figures in cards and histories stand on these very images."""
    fashion, digits = load_dataset("fashion_mnist"), load_dataset("digits")
    assert {name: split.hash for name, split in fashion.splits.items()} == {
        "train": "13cf79ba1c0990c6",
        "calibration": "94ab3a0cb17aef38",
        "validation": "961c3af09d540e83",
        "test": "a959d02863eebbfc",
    }
    assert digits["test"].hash == "8591b2ec100a971f"


def test_listing_the_datasets_imports_no_torch() -> None:
    code = (
        "import sys; from workbench.data.catalog import available_datasets as a; "
        "import json; print(json.dumps([e.to_json() for e in a()])); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [entry["name"] for entry in json.loads(done.stdout)] == [
        "fashion_mnist",
        "fashion_mnist:full",
        "digits",
    ]


def test_the_bundle_matches_its_sums() -> None:
    folder = BUNDLED / "fashion_mnist"
    sums = dict(line.split()[::-1] for line in (folder / "SHA256SUMS").read_text().splitlines())
    assert set(sums) == {"train.npz", "validation.npz", "test.npz"}
    for name, expected in sums.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == expected


def test_the_bundled_test_split_is_the_published_test_set() -> None:
    """Put the idx files together again from the bundle: their content has the published sums."""
    test = load_dataset("fashion_mnist")["test"]
    images = np.array([0x0803, 10_000, 28, 28], ">u4").tobytes() + test.images.numpy().tobytes()
    labels = np.array([0x0801, 10_000], ">u4").tobytes() + test.labels.numpy().astype(np.uint8).tobytes()
    sums = fashion_mnist.CONTENT_SHA256
    assert hashlib.sha256(images).hexdigest() == sums["t10k-images-idx3-ubyte.gz"]
    assert hashlib.sha256(labels).hexdigest() == sums["t10k-labels-idx1-ubyte.gz"]


@needs_full
def test_the_bundle_can_be_made_again(tmp_path: Path) -> None:
    fashion_mnist.make_bundle(tmp_path)
    for name in ("train", "validation", "test"):
        with (
            np.load(tmp_path / f"{name}.npz") as made,
            np.load(BUNDLED / "fashion_mnist" / f"{name}.npz") as kept,
        ):
            for key in ("images", "labels", "index"):
                assert np.array_equal(made[key], kept[key])


@needs_full
def test_the_full_set_holds_out_the_same_images() -> None:
    full, bundled = load_dataset("fashion_mnist:full"), load_dataset("fashion_mnist")
    assert full["test"].hash == bundled["test"].hash
    assert full["validation"].hash == bundled["validation"].hash
    train = {image.numpy().tobytes() for image in full["train"].images}
    assert {image.numpy().tobytes() for image in bundled["train"].images} <= train


@needs_full
def test_the_normalisation_is_that_of_the_original_training_images() -> None:
    images, _ = fashion_mnist._read_original("train")
    assert Normalization.of(torch.from_numpy(images).unsqueeze(1)) == fashion_mnist.NORMALIZATION


def test_the_bundle_loads_in_half_a_second() -> None:
    load_dataset("fashion_mnist")
    start = time.process_time()
    load_dataset("fashion_mnist")
    assert time.process_time() - start < 0.5


def test_digits_keep_their_seventeen_grey_levels() -> None:
    from sklearn.datasets import load_digits

    data = load_dataset("digits")
    images = torch.cat([data[name].images for name in ("train", "validation", "test")])
    assert len(images.unique()) == 17
    assert sorted(images.double().mul(16 / 255).round().sum((1, 2, 3)).tolist()) == sorted(
        load_digits().data.sum(1).tolist()
    )


def copy_bundle(folder: Path) -> None:
    (folder / "fashion_mnist").mkdir()
    for file in (BUNDLED / "fashion_mnist").glob("*"):
        (folder / "fashion_mnist" / file.name).write_bytes(file.read_bytes())


@pytest.mark.parametrize("damage", ["changed", "cut short", "missing", "no sums"])
def test_a_damaged_bundle_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    copy_bundle(tmp_path)
    monkeypatch.setattr(fashion_mnist, "BUNDLED", tmp_path)
    load_dataset("fashion_mnist")
    file = tmp_path / "fashion_mnist" / "test.npz"
    raw = bytearray(file.read_bytes())
    if damage == "changed":
        raw[len(raw) // 2] ^= 1
        file.write_bytes(raw)
    elif damage == "cut short":
        file.write_bytes(raw[:-1000])
    elif damage == "missing":
        file.unlink()
    else:
        (tmp_path / "fashion_mnist" / "SHA256SUMS").unlink()
    with pytest.raises(WorkbenchError, match=r"The bundled file '.*' is missing or damaged .*; install"):
        load_dataset("fashion_mnist")


def test_a_full_set_that_cannot_be_fetched_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pooch

    def refuse(*_: object, **__: object) -> str:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "nothing")
    monkeypatch.setattr(pooch, "retrieve", refuse)
    with pytest.raises(WorkbenchError, match=r"could not be fetched .*Network is unreachable.*dataset-fashion-mnist"):
        load_dataset("fashion_mnist:full")


@pytest.mark.parametrize("content", [b"no gzip", b"\x1f\x8b\x08\x00", None])
def test_a_full_set_that_is_not_what_was_published_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    import gzip

    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path)
    raw = gzip.compress(bytes([0, 0, 8, 1]) + bytes(100)) if content is None else content
    for name in fashion_mnist.CONTENT_SHA256:
        (tmp_path / name).write_bytes(raw)
    with pytest.raises(WorkbenchError, match=r"train-images-idx3-ubyte\.gz"):
        load_dataset("fashion_mnist:full")
