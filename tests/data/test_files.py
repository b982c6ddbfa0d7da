"""Files of arrays and tables: .npz and .parquet, their names and the files beside them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.data.conftest import Pair
from workbench.data.load import load_dataset
from workbench.data.naming import split_of

MakePair = Callable[..., Pair]
CIFAR10 = Path(__file__).parents[3] / "shared" / "data" / "cifar10"


def write_parquet(
    path: Path,
    pair: Pair,
    metadata: dict[str, str] | None = None,
    names: tuple[str, str] = ("image", "label"),
) -> Path:
    """Write PNG bytes (``(N, H, W, 3)`` pixels), so that pixels come back as they were."""
    encoded = []
    for pixels in pair[0]:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        encoded.append(buffer.getvalue())
    columns: dict[str, Any] = {names[0]: encoded, names[1]: pair[1]}
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path)
    return path


@pytest.mark.parametrize(
    ("images", "labels"),
    [("x", "y"), ("images", "labels"), ("X", "Y"), ("image", "targets"), ("data", "label")],
)
def test_an_npz_of_one_set_is_cut(tmp_path: Path, make_pair: MakePair, images: str, labels: str) -> None:
    pair = make_pair()
    np.savez(tmp_path / "toy.npz", **{images: pair[0], labels: pair[1]})
    data = load_dataset(tmp_path / "toy.npz")
    assert data.name == "toy"
    assert data["test"].hash == load_dataset(pair)["test"].hash


@pytest.mark.parametrize("form", ["{}_{}", "{1}_{0}s", "{}{}"])
def test_an_npz_of_several_sets_keeps_them(tmp_path: Path, make_pair: MakePair, form: str) -> None:
    if form == "{}{}":
        keys = [f"{kind}_{split}" for split in ("train", "val", "test") for kind in ("x", "y")]
    elif form == "{}_{}":
        keys = [f"{kind}_{split}" for split in ("train", "val", "test") for kind in ("images", "labels")]
    else:  # as MedMNIST names them
        keys = [f"{split}_{kind}" for split in ("train", "val", "test") for kind in ("images", "labels")]
    sets = [make_pair(count, seed=count) for count in (40, 20, 30)]
    np.savez(tmp_path / "toy.npz", **dict(zip(keys, (array for pair in sets for array in pair), strict=True)))
    data = load_dataset(tmp_path / "toy.npz")
    assert [len(data[name]) for name in ("train", "validation", "test")] == [40, 20, 30]


def test_an_npz_beside_one_called_test_finds_it(tmp_path: Path, make_pair: MakePair) -> None:
    for name, count in (("train", 40), ("test", 20)):
        images, labels = make_pair(count, seed=count)
        np.savez(tmp_path / f"{name}.npz", x=images, y=labels)
    for source in (tmp_path / "train.npz", tmp_path / "test.npz", tmp_path):
        data = load_dataset(source)
        assert len(data["test"]) == 20
        assert len(data["train"]) + len(data["validation"]) == 40


def test_shards_of_arrays_are_one_set(tmp_path: Path, make_pair: MakePair) -> None:
    for name, count in (("train-00000-of-00002", 30), ("train-00001-of-00002", 10), ("test-00000-of-00001", 20)):
        images, labels = make_pair(count, seed=count)
        np.savez(tmp_path / f"{name}.npz", x=images, y=labels)
    for source in (tmp_path, tmp_path / "train-00001-of-00002.npz", tmp_path / "test-00000-of-00001.npz"):
        data = load_dataset(source)
        assert len(data["test"]) == 20
        assert len(data["train"]) + len(data["validation"]) == 40
    assert load_dataset(tmp_path).name == tmp_path.name


def test_archives_that_each_name_their_own_set_belong_together(tmp_path: Path, make_pair: MakePair) -> None:
    for name, count in (("train", 40), ("test", 20)):
        images, labels = make_pair(count, seed=count)
        np.savez(tmp_path / f"{name}.npz", **{f"x_{name}": images, f"y_{name}": labels})
    assert len(load_dataset(tmp_path / "train.npz")["test"]) == len(load_dataset(tmp_path)["test"]) == 20


def test_class_names_in_bytes_beyond_ascii_are_read(tmp_path: Path, make_pair: MakePair) -> None:
    images, labels = make_pair()
    names = np.array(["rosé".encode(), b"blanc", b"\xff"])
    np.savez(tmp_path / "toy.npz", x=images, y=names[labels])
    assert load_dataset(tmp_path / "toy.npz").classes == ("\\xff", "blanc", "rosé")
    np.savez(tmp_path / "toy.npz", x=images, y=labels, classes=names)
    assert load_dataset(tmp_path / "toy.npz").classes == ("rosé", "blanc", "\\xff")


def test_an_npz_carries_class_names(tmp_path: Path, make_pair: MakePair) -> None:
    images, labels = make_pair()
    np.savez(tmp_path / "toy.npz", x=images, y=labels, classes=np.array(["a", "b", "c"]))
    assert load_dataset(tmp_path / "toy.npz").classes == ("a", "b", "c")


def test_labels_in_a_column_are_read(tmp_path: Path, make_pair: MakePair) -> None:
    images, labels = make_pair()
    np.savez(tmp_path / "toy.npz", x=images, y=labels[:, None].astype(np.uint16))
    assert len(load_dataset(tmp_path / "toy.npz")["test"]) == 12


@pytest.mark.parametrize("names", ["a,b,c", '["a", "b", "c"]'])
def test_a_parquet_table_carries_images_and_class_names(tmp_path: Path, make_pair: MakePair, names: str) -> None:
    pair = make_pair(60, (6, 5, 3))
    data = load_dataset(write_parquet(tmp_path / "toy.parquet", pair, {"class_names": names}))
    assert data.classes == ("a", "b", "c")
    assert data["test"].hash == load_dataset(pair)["test"].hash


def test_a_parquet_table_finds_its_siblings(tmp_path: Path, make_pair: MakePair) -> None:
    for name, count in (("toy-train-00", 30), ("toy-train-01", 10), ("toy-test-00", 20)):
        write_parquet(tmp_path / f"{name}.parquet", make_pair(count, (6, 5, 3), seed=count))
    write_parquet(tmp_path / "other-test.parquet", make_pair(9, (6, 5, 3)))
    data = load_dataset(tmp_path / "toy-train-00.parquet")
    assert len(data["test"]) == 20


def test_a_folder_of_shards_is_one_dataset(tmp_path: Path, make_pair: MakePair) -> None:
    for name, count in (
        ("train-00000-of-00002", 30),
        ("train-00001-of-00002", 10),
        ("test-00000-of-00001", 20),
    ):
        write_parquet(tmp_path / f"{name}.parquet", make_pair(count, (6, 5, 3), seed=count))
    data = load_dataset(tmp_path)
    assert len(data["test"]) == 20
    assert len(data["train"]) + len(data["validation"]) == 40


def test_one_shard_finds_the_others_and_the_test_set(tmp_path: Path, make_pair: MakePair) -> None:
    for name, count in (
        ("train-00000-of-00002-0123456789abcdef", 30),
        ("train-00001-of-00002-0123456789abcdef", 10),
        ("test-00000-of-00001-fedcba9876543210", 20),
        ("other-test-00000-of-00001", 9),
    ):
        write_parquet(tmp_path / f"{name}.parquet", make_pair(count, (6, 5, 3), seed=count))
    data = load_dataset(next(tmp_path.glob("train-00000*")))
    assert len(data["test"]) == 20
    assert len(data["train"]) + len(data["validation"]) == 40


def test_columns_of_another_name_and_a_struct_are_read(tmp_path: Path, make_pair: MakePair) -> None:
    pair = make_pair(30, (6, 5, 3))
    plain = write_parquet(tmp_path / "plain.parquet", pair, names=("photo", "species"))
    table = pq.read_table(plain)
    photos = [{"bytes": value.as_py(), "path": "x.png"} for value in table["photo"]]
    described = {"info": {"features": {"species": {"names": ["a", "b", "c"]}}}}
    nested = pa.table({"photo": photos, "species": table["species"]})
    pq.write_table(nested.replace_schema_metadata({"huggingface": json.dumps(described)}), tmp_path / "nested.parquet")
    first, second = load_dataset(plain), load_dataset(tmp_path / "nested.parquet")
    assert first["test"].hash == second["test"].hash
    assert second.classes == ("a", "b", "c")


@pytest.mark.skipif(not CIFAR10.exists(), reason="CIFAR-10 is not on this machine")
def test_cifar10_is_read_with_its_class_names(tmp_path: Path) -> None:
    table = pq.read_table(CIFAR10 / "test.parquet")
    for name, part in (("train", table.slice(0, 600)), ("test", table.slice(600, 300))):
        pq.write_table(part, tmp_path / f"{name}.parquet")
    data = load_dataset(tmp_path / "train.parquet")
    assert data.image_shape == (3, 32, 32)
    assert len(data["test"]) == 300
    assert data.classes[0] == "airplane"
    with Image.open(io.BytesIO(table["image"][600].as_py())) as image:
        assert data["test"].images[0].permute(1, 2, 0).numpy().tolist() == np.asarray(image).tolist()


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("x_train", "train"), ("test-00000-of-00001", "test"), ("toy.val", "validation"),
        ("Validation", "validation"), ("x_valid2", "validation"),
        ("trainer", None), ("contest", None), ("latest", None), ("images", None),
    ],
)  # fmt: skip
def test_names_speak_of_a_set_only_as_whole_words(name: str, split: str | None) -> None:
    assert split_of(name) == split
