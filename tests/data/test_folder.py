"""Folders of images: layouts, names, modes and sizes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workbench.data.load import load_dataset

MakeFolder = Callable[..., Path]


def test_subfolders_are_classes_in_sorted_order(make_folder: MakeFolder) -> None:
    data = load_dataset(make_folder({"dog": 10, "Cat": 10, "ant": 10}))
    assert data.name == "pets"
    assert data.classes == ("Cat", "ant", "dog")
    assert data.image_shape == (3, 6, 8)
    assert sum(len(data[name]) for name in ("train", "validation", "test")) == 30


def test_classes_called_by_numbers_in_another_order_are_told(make_folder: MakeFolder) -> None:
    data = load_dataset(make_folder({"1": 4, "2": 4, "10": 4}))
    assert data.classes == ("1", "10", "2")
    assert any("so that '10' is class 1" in note for note in data.notes)


@pytest.mark.parametrize("names", [("0", "1", "2"), ("01", "02", "10"), ("1", "10", "two")])
def test_of_other_names_nothing_is_told(make_folder: MakeFolder, names: tuple[str, ...]) -> None:
    assert not any("as text" in note for note in load_dataset(make_folder(dict.fromkeys(names, 4))).notes)


def test_pixels_and_labels_are_those_of_the_files(make_folder: MakeFolder) -> None:
    folder = make_folder({"train/a": 4, "train/b": 4, "test/a": 2, "test/b": 3})
    data = load_dataset(folder)
    files = sorted((folder / "test").rglob("*.png"))
    expected = np.stack([np.asarray(Image.open(file)).transpose(2, 0, 1) for file in files])
    assert data["test"].images.numpy().tolist() == expected.tolist()
    assert data["test"].labels.tolist() == [0, 0, 1, 1, 1]


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "validation", "TEST")])
def test_folders_named_after_sets_are_kept_apart(make_folder: MakeFolder, names: tuple[str, str, str]) -> None:
    train, validation, test = names
    counts = {f"{train}/a": 5, f"{train}/b": 4, f"{validation}/a": 2, f"{validation}/b": 1}
    data = load_dataset(make_folder({**counts, f"{test}/a": 1, f"{test}/b": 2}))
    assert [len(data[name]) for name in ("train", "validation", "test")] == [9, 3, 3]


def test_a_class_may_be_called_train(make_folder: MakeFolder) -> None:
    assert load_dataset(make_folder({"train": 5, "bus": 5})).classes == ("bus", "train")


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_grey_images_have_one_channel(make_folder: MakeFolder, mode: str) -> None:
    assert load_dataset(make_folder({"a": 5, "b": 5}, mode=mode)).image_shape == (1, 6, 8)


@pytest.mark.parametrize("mode", ["P", "RGBA", "RGB"])
def test_colour_images_have_three(make_folder: MakeFolder, mode: str) -> None:
    assert load_dataset(make_folder({"a": 5, "b": 5}, mode=mode)).image_shape == (3, 6, 8)


def test_cmyk_is_read_as_rgb(make_folder: MakeFolder) -> None:
    folder = make_folder({"a": 5, "b": 5})
    Image.new("CMYK", (8, 6), (0, 255, 255, 0)).save(folder / "a" / "red.jpg")
    data = load_dataset(folder)
    images = np.concatenate([data[name].images.numpy() for name in ("train", "validation", "test")])
    red, green, blue = images.astype(int).transpose(1, 0, 2, 3)
    assert ((red > 240) & (green < 15) & (blue < 15)).all((1, 2)).sum() == 1


def test_16_bits_are_scaled_not_clipped(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder({"a": 5, "b": 5}, mode="L")
    ramp = (np.arange(48, dtype=np.uint16) * 1300).reshape(6, 8)
    Image.fromarray(ramp).save(folder / "a" / "deep.png")
    data = load_dataset(folder)
    images = np.concatenate([data[name].images.numpy() for name in ("train", "validation", "test")])
    assert (images[:, 0] == ramp >> 8).all((1, 2)).sum() == 1
    assert any("16 bits" in note for note in data.notes)


def test_grey_among_colour_becomes_rgb_with_a_note(make_folder: MakeFolder) -> None:
    folder = make_folder({"a": 5, "b": 5})
    Image.new("L", (8, 6), 99).save(folder / "a" / "grey.png")
    data = load_dataset(folder)
    assert data.image_shape == (3, 6, 8)
    assert "1 of 11 images were grey and were made RGB." in data.notes


def test_channels_can_be_chosen(make_folder: MakeFolder) -> None:
    data = load_dataset(make_folder({"a": 5, "b": 5}), channels=1)
    assert data.image_shape == (1, 6, 8)
    assert "10 of 10 images were in colour and were made grey." in data.notes


def test_sizes_that_differ_are_brought_to_the_commonest_with_a_note(make_folder: MakeFolder) -> None:
    folder = make_folder({"a": 5, "b": 5})
    Image.new("RGB", (80, 60), (200, 10, 10)).save(folder / "a" / "big.png")
    Image.new("RGB", (3, 9), (10, 200, 10)).save(folder / "b" / "small.png")
    data = load_dataset(folder)
    assert data.image_shape == (3, 6, 8)
    assert any(note.startswith("2 of 12 images had another size") for note in data.notes)


@pytest.mark.parametrize(("asked", "got"), [(16, (3, 16, 16)), ((4, 7), (3, 4, 7))])
def test_image_size_is_height_and_width(
    make_folder: MakeFolder, asked: int | tuple[int, int], got: tuple[int, int, int]
) -> None:
    assert load_dataset(make_folder({"a": 5, "b": 5}), image_size=asked).image_shape == got


def test_odd_names_are_read(make_folder: MakeFolder) -> None:
    folder = make_folder({"größe µ": 4, "with 'quotes' {x}": 4})
    image = Image.new("RGB", (8, 6))
    for name in ("UPPER.PNG", "a b (copy).JpEg", "line\nbreak.bmp", "…ü.webp", "<b>.gif"):
        image.save(folder / "größe µ" / name, format="PNG")
    data = load_dataset(folder)
    assert data.classes == ("größe µ", "with 'quotes' {x}")
    assert sum(len(data[name]) for name in ("train", "validation", "test")) == 13


@pytest.mark.skipif(sys.platform != "linux", reason="only there may names be any bytes")
def test_names_that_are_no_utf8_are_read_and_can_be_printed(make_folder: MakeFolder) -> None:
    folder = make_folder({"a": 4, "b": 4})
    try:
        (folder / "b").rename(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe"))
    except OSError:
        pytest.skip("this file system refuses such names")
    assert load_dataset(folder).classes[1].encode("utf-8")


def test_hidden_files_and_others_are_left_out_with_a_note(make_folder: MakeFolder) -> None:
    folder = make_folder({"a": 5, "b": 5})
    for name in (".DS_Store", "._000.png", "notes.txt"):
        (folder / "a" / name).write_text("no image")
    (folder / ".git").mkdir()
    data = load_dataset(folder)
    assert sum(len(data[name]) for name in ("train", "validation", "test")) == 10
    assert "1 file is no image and left out, such as 'notes.txt'." in data.notes


def test_images_deeper_down_belong_to_their_class(make_folder: MakeFolder) -> None:
    data = load_dataset(make_folder({"a/x": 3, "a/y": 3, "b": 6}))
    assert data.classes == ("a", "b")
    assert sum(len(data[name]) for name in ("train", "validation", "test")) == 12


def test_given_classes_fix_the_numbers_of_the_labels(make_folder: MakeFolder) -> None:
    data = load_dataset(make_folder({"dog": 5, "ant": 5}), classes=["dog", "cat", "ant"])
    assert data.classes == ("dog", "cat", "ant")
    assert data["train"].labels.unique().tolist() == [0, 2]
    assert "No image in dataset 'pets' is of class 'cat'." in data.notes
