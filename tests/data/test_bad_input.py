"""What cannot be used is refused in one sentence that names the input and says what is wrong."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset as TorchDataset

from tests.data.conftest import Pair
from workbench.data.load import load_dataset
from workbench.errors import WorkbenchError

MakePair = Callable[..., Pair]
MakeFolder = Callable[..., Path]


def refused(source: object, **options: Any) -> str:
    """Load, expect a refusal, and return its sentence."""
    with pytest.raises(WorkbenchError) as caught:
        load_dataset(source, **options)
    sentence = str(caught.value)
    assert sentence
    assert "\n" not in sentence
    assert sentence.endswith((".", "?"))
    return sentence


# ---- names and paths


def test_an_unknown_name_lists_those_known() -> None:
    sentence = refused("fashion_mnits")
    assert "'fashion_mnits'" in sentence
    assert "fashion_mnist, fashion_mnist:full, digits" in sentence
    assert "Did you mean 'fashion_mnist'?" in sentence


@pytest.mark.parametrize("source", ["/nowhere/at/all", "./missing", "missing.npz", "a\0b", "x" * 5000])
def test_a_path_that_is_not_there_is_named(source: str) -> None:
    assert source.replace("\0", "\0")[:20] in refused(source)


def test_a_file_of_another_kind_is_refused_and_never_unpickled(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("1,2\n")
    assert ".npz or .parquet" in refused(tmp_path / "data.csv")
    (tmp_path / "data.pt").write_bytes(pickle.dumps([1]))
    assert "pickled files are never loaded" in refused(tmp_path / "data.pt")


@pytest.mark.parametrize("source", [None, 7, object()])
def test_something_else_is_refused(source: object) -> None:
    assert type(source).__name__ in refused(source)


# ---- folders


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    assert "has no images" in refused(tmp_path)


def test_a_single_image_is_refused(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    assert "too few images" in refused(tmp_path)


def test_an_empty_class_is_refused(make_folder: MakeFolder) -> None:
    assert "pets/b' has no images" in refused(make_folder({"a": 5, "b": 0}))


def test_a_class_missing_from_test_is_refused(make_folder: MakeFolder) -> None:
    sentence = refused(make_folder({"train/a": 5, "train/b": 5, "train/c": 5, "test/a": 2, "test/b": 2}))
    assert "No image in the test set of dataset 'pets' is of class 'c'" in sentence


def test_a_class_missing_from_train_is_refused(make_folder: MakeFolder) -> None:
    sentence = refused(make_folder({"train/a": 5, "train/b": 5, "test/a": 2, "test/b": 2, "test/c": 2}))
    assert "No image in the train set of dataset 'pets' is of class 'c'" in sentence


def test_a_class_too_small_to_be_cut_is_refused(make_folder: MakeFolder) -> None:
    assert "Class 'b' of dataset 'pets' has only 2 images" in refused(make_folder({"a": 5, "b": 2}))


def test_one_class_only_is_refused(make_folder: MakeFolder) -> None:
    assert "only one class, 'a'" in refused(make_folder({"a": 5}))


@pytest.mark.parametrize("damage", ["cut short", "text", "empty", "header only"])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_broken_image_is_named(make_folder: MakeFolder, damage: str, suffix: str) -> None:
    folder = make_folder({"a": 5, "b": 5}, size=(64, 64))
    whole = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(whole, "PNG" if suffix == "png" else "JPEG")
    raw = whole.getvalue()
    content = {"cut short": raw[: len(raw) // 2], "text": b"no image", "empty": b"", "header only": raw[:30]}
    (folder / "b" / f"broken one.{suffix}").write_bytes(content[damage])
    assert f"broken one.{suffix}' cannot be read" in refused(folder)


def test_an_image_too_large_to_be_true_is_named(make_folder: MakeFolder) -> None:
    folder = make_folder({"a": 5, "b": 5})
    header = bytearray((folder / "b" / "000.png").read_bytes())
    header[16:24] = (60_000).to_bytes(4, "big") * 2
    import zlib

    header[29:33] = zlib.crc32(header[12:29]).to_bytes(4, "big")
    (folder / "b" / "bomb.png").write_bytes(header)
    assert "bomb.png' cannot be read" in refused(folder)


def test_a_broken_link_is_named_and_a_pipe_is_not_waited_for(make_folder: MakeFolder) -> None:
    folder = make_folder({"a": 5, "b": 5})
    os.mkfifo(folder / "a" / "pipe.png")
    os.mkfifo(folder / "pipe.npz")
    assert any("'pipe.png'" in note for note in load_dataset(folder).notes)
    assert "pipe.npz" in refused(folder / "pipe.npz")
    (folder / "a" / "link.png").symlink_to("nothing")
    assert "link.png' cannot be read" in refused(folder)


def test_postscript_called_png_is_never_run(make_folder: MakeFolder) -> None:
    folder = make_folder({"a": 5, "b": 5})
    Image.new("RGB", (8, 6)).save(folder / "a" / "script.png", "EPS")
    assert "script.png' cannot be read: it is no image" in refused(folder)


def test_float_pixels_of_unknown_range_are_refused(make_folder: MakeFolder) -> None:
    folder = make_folder({"a": 5, "b": 5})
    Image.fromarray(np.ones((6, 8), np.float32)).save(folder / "b" / "float.tif")
    assert "float.tif' has pixels of mode F" in refused(folder)


def test_a_class_outside_those_given_is_refused(make_folder: MakeFolder) -> None:
    assert "class 'b', which is not among" in refused(make_folder({"a": 5, "b": 5}), classes=["a", "c"])


# ---- images and labels


def test_counts_that_differ_are_refused(make_pair: MakePair) -> None:
    images, labels = make_pair()
    assert "60 images but 59 labels" in refused((images, labels[:-1]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64])
def test_float_labels_are_refused(make_pair: MakePair, dtype: type) -> None:
    images, labels = make_pair()
    assert f"labels of dataset 'arrays' are {np.dtype(dtype)}" in refused((images, labels.astype(dtype)))


def test_one_hot_labels_are_refused(make_pair: MakePair) -> None:
    images, labels = make_pair()
    assert "one-hot" in refused((images, np.eye(3, dtype=int)[labels]))


@pytest.mark.parametrize("label", [-1, 3, 2**62])
def test_a_label_out_of_range_is_refused(make_pair: MakePair, label: int) -> None:
    images, labels = make_pair()
    labels = labels.copy()
    labels[7] = label
    sentence = refused((images, labels), classes=["a", "b", "c"])
    assert f"Label {label} in the train set of dataset 'arrays' is outside 0..2" in sentence


@pytest.mark.parametrize("label", [2**62, 2_000_000])
def test_a_wild_label_is_refused_where_no_classes_were_given(make_pair: MakePair, label: int) -> None:
    images, labels = make_pair()
    labels = labels.copy()
    labels[7] = label
    assert str(label) in refused((images, labels))


def test_a_gap_in_the_labels_is_refused_unless_the_classes_are_given(make_pair: MakePair) -> None:
    images, labels = make_pair()
    labels = np.where(labels == 1, 3, labels)
    said = refused((images, labels))
    assert "is of class '1'" in said
    assert "although labels go up to 3; correct them, add images" in said
    assert "No image in dataset 'arrays' is of class 'b'." in load_dataset((images, labels), classes="abcd").notes


def test_one_class_in_arrays_is_refused(make_pair: MakePair) -> None:
    assert "only one class" in refused((make_pair()[0], np.zeros(60, int)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_images_that_are_not_finite_are_refused(make_pair: MakePair, value: float) -> None:
    images, labels = make_pair()
    floats = images.astype(np.float32)
    floats[3, 0, 1, 1] = floats[8, 0, 0, 0] = value
    assert "2 of 60 images of dataset 'arrays' contain NaN or infinite" in refused((floats, labels))


@pytest.mark.parametrize("shape", [(60, 64), (60,), (60, 1, 1, 8, 8), (0, 1, 8, 8), (60, 1, 0, 8)])
def test_images_of_a_wrong_shape_are_refused(shape: tuple[int, ...]) -> None:
    assert str(shape) in refused((np.zeros(shape, np.uint8), np.arange(shape[0]) % 3))


@pytest.mark.parametrize("pixels", [300, -1])
def test_whole_numbers_beyond_a_byte_are_refused(make_pair: MakePair, pixels: int) -> None:
    images, labels = make_pair()
    wide = images.astype(np.int32)
    wide[0, 0, 0, 0] = pixels
    assert str(pixels) in refused((wide, labels))


def test_images_that_are_no_numbers_are_refused(make_pair: MakePair) -> None:
    assert "must be numbers" in refused((np.array(["a"] * 60), make_pair()[1]))


def test_images_of_differing_sizes_are_refused() -> None:
    images = [np.zeros((1, 8, 8), np.uint8), np.zeros((1, 8, 9), np.uint8)]
    assert "differ in size (1×8×8 and 1×8×9)" in refused((images, [0, 1]))


@pytest.mark.parametrize("shape", [(1, 8, 9), (3, 8, 8)])
def test_train_and_test_images_that_differ_in_shape_are_refused(make_pair: MakePair, shape: tuple[int, ...]) -> None:
    sentence = refused({"train": make_pair(), "test": make_pair(30, shape)})
    assert "×".join(map(str, shape)) in sentence
    assert "1×8×8" in sentence


def test_train_and_test_images_that_differ_in_type_are_refused(make_pair: MakePair) -> None:
    images, labels = make_pair()
    assert "float32" in refused({"train": (images, labels), "test": (images / 255, labels)})


def test_labels_by_name_in_one_set_and_by_number_in_another_are_refused(make_pair: MakePair) -> None:
    images, labels = make_pair()
    assert "choose one" in refused({"train": (images, labels), "test": (images, labels.astype(str))})


@pytest.mark.parametrize("source", [{}, {"holdout": 1}, {"train": 1}, (1,), [1, 2, 3]])
def test_a_mapping_or_tuple_of_something_else_is_refused(source: object) -> None:
    refused(source)


# ---- torch datasets


class Broken(TorchDataset):  # type: ignore[type-arg]
    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> object:
        if index == 3:
            raise RuntimeError("disk\non fire")
        return torch.zeros(1, 4, 4), index % 2


class Boxes(TorchDataset):  # type: ignore[type-arg]
    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"image": torch.zeros(1, 4, 4), "boxes": torch.zeros(3, 4)}


def test_a_torch_dataset_that_fails_names_the_image() -> None:
    sentence = refused(Broken())
    assert "image 3" in sentence
    assert "RuntimeError: disk on fire" in sentence


def test_a_torch_dataset_of_other_things_than_labels_is_refused() -> None:
    assert "pair (image, label), or an image alone, not dict" in refused(Boxes())


def test_labels_for_some_of_the_images_are_refused(make_pair: MakePair) -> None:
    images, labels = make_pair()
    some = [None if number == 5 else int(label) for number, label in enumerate(labels)]
    assert "1 of 60 images of dataset 'arrays' have no label; give all of them one, or none." in refused((images, some))


# ---- .npz and .parquet


def test_a_pickle_inside_npz_is_refused_and_not_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "went off",)

    np.savez(tmp_path / "bomb.npz", x=np.array([Bomb()], dtype=object), y=np.zeros(1, int))
    assert "never loaded" in refused(tmp_path / "bomb.npz")
    (tmp_path / "plain.npz").write_bytes(pickle.dumps(Bomb()))
    assert "plain.npz' cannot be read" in refused(tmp_path / "plain.npz")
    assert not (tmp_path / "went off").exists()


@pytest.mark.parametrize("length", [0, 10, 2000, -30])
def test_a_truncated_npz_is_refused(tmp_path: Path, make_pair: MakePair, length: int) -> None:
    images, labels = make_pair()
    np.savez(tmp_path / "toy.npz", x=images, y=labels)
    (tmp_path / "toy.npz").write_bytes((tmp_path / "toy.npz").read_bytes()[:length])
    assert "toy.npz' cannot be read" in refused(tmp_path / "toy.npz")


def test_a_changed_npz_is_refused(tmp_path: Path, make_pair: MakePair) -> None:
    images, labels = make_pair()
    np.savez_compressed(tmp_path / "toy.npz", x=images, y=labels)
    raw = bytearray((tmp_path / "toy.npz").read_bytes())
    raw[1000] ^= 0xFF
    (tmp_path / "toy.npz").write_bytes(raw)
    assert "toy.npz' cannot be read" in refused(tmp_path / "toy.npz")


def test_an_npz_with_other_arrays_lists_them(tmp_path: Path) -> None:
    np.savez(tmp_path / "toy.npz", weights=np.zeros((3, 4)))
    assert "holds 'weights' of shape (3, 4)" in refused(tmp_path / "toy.npz")


@pytest.mark.parametrize(
    ("extra", "what"), [("images", "'x' and 'images'"), ("labels", "'y' and 'labels'"), ("X", "'x' and 'X'")]
)
def test_an_npz_that_holds_two_pairs_of_one_set_is_refused(
    tmp_path: Path, make_pair: MakePair, extra: str, what: str
) -> None:
    images, labels = make_pair()
    other = labels if extra == "labels" else images
    np.savez(tmp_path / "toy.npz", x=images, y=labels, **{extra: other[::-1]})
    assert f"{what}, and either could be" in refused(tmp_path / "toy.npz")
    np.savez(tmp_path / "sets.npz", x_val=images, y_val=labels, x_valid=images[::-1], x_test=images, y_test=labels)
    assert "'x_val' and 'x_valid'" in refused(tmp_path / "sets.npz")


def test_an_npz_that_would_not_fit_into_memory_is_refused(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as archive, archive.open("x.npy", "w") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (1 << 45,)}
        np.lib.format.write_array_header_1_0(file, header)
    sentence = refused(tmp_path / "huge.npz")
    assert "huge.npz" in sentence


@pytest.mark.parametrize("length", [0, 3, 200, -5])
def test_a_truncated_parquet_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "toy.parquet"
    pq.write_table(pa.table({"image": [b"x" * 500] * 9, "label": list(range(9))}), path)
    path.write_bytes(path.read_bytes()[:length])
    assert "toy.parquet' cannot be read as Parquet" in refused(path)


def test_a_parquet_row_that_is_no_image_is_named(tmp_path: Path) -> None:
    path = tmp_path / "toy.parquet"
    good = io.BytesIO()
    Image.new("L", (4, 4)).save(good, "PNG")
    pq.write_table(pa.table({"image": [good.getvalue()] * 7 + [b"none"], "label": [0, 1] * 4}), path)
    assert "toy.parquet, row 7' cannot be read" in refused(path)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"a": [1], "b": [2]}, "needs a column 'image'"),
        ({"image": [b"x"], "a": [1.5]}, "needs a column 'label'"),
        ({"image": [b"x", None], "label": [1, 0]}, "1 row without an image"),
        ({"image": [b"x", b"y"], "label": [1, None]}, "1 row without a label"),
        ({"image": ["a.png"], "label": [1]}, "must be the bytes"),
    ],
)
def test_a_parquet_with_wrong_columns_is_refused(tmp_path: Path, columns: dict[str, Any], said: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "toy.parquet")
    assert said in refused(tmp_path / "toy.parquet")


# ---- settings


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"validation_share": 0}, "between 0 and 1"),
        ({"validation_share": 0.5, "test_share": 0.5}, "leave something"),
        ({"image_size": "big"}, "image_size"),
        ({"image_size": (0, 4)}, "image_size"),
        ({"channels": 2}, "channels"),
        ({"classes": ["a", "a"]}, "given twice"),
        ({"normalization": 3}, "normalization"),
        ({"normalization": (0.0, 0.0)}, "std"),
        ({"normalization": ((0.1, 0.2), (1, 1))}, "2 channels"),
        ({"image_size": 8}, "no meaning for images in memory"),
    ],
)
def test_wrong_settings_are_refused(make_pair: MakePair, options: dict[str, Any], said: str) -> None:
    assert said in refused(make_pair(), **options)


def test_cutting_a_dataset_whose_splits_are_fixed_is_refused() -> None:
    assert "whose splits are fixed" in refused("fashion_mnist", test_share=0.5)


def test_shards_that_differ_are_refused(tmp_path: Path, make_pair: MakePair) -> None:
    for name, size in (("train-0-of-2", 8), ("train-1-of-2", 9)):
        images, labels = make_pair(30, (1, size, size))
        np.savez(tmp_path / f"{name}.npz", x=images, y=labels)
    sentence = refused(tmp_path)
    assert "train-0-of-2.npz" in sentence
    assert "train-1-of-2.npz" in sentence


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    table = pa.Table.from_arrays(
        [pa.array([b"", b""]), pa.array([b"", b""]), pa.array([0, 1])], ["image", "image", "label"]
    )
    pq.write_table(table, tmp_path / "twice.parquet")
    assert "more than one column 'image'" in refused(tmp_path / "twice.parquet")


def test_pictures_of_unknown_range_in_a_torch_dataset_are_refused() -> None:
    class Depths(TorchDataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return 10

        def __getitem__(self, index: int) -> tuple[Image.Image, int]:
            return Image.fromarray(np.full((4, 4), 1000 * index, np.float32)), index % 2

    assert "Image '0' has pixels of mode F" in refused(Depths())
