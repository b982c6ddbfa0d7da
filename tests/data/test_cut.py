"""Splits that were not given: by class, the same in each run, and never overlapping."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.conftest import Pair
from workbench.data.cut import fingerprints, stratified
from workbench.data.dataset import Dataset
from workbench.data.load import load_dataset

MakePair = Callable[..., Pair]


def rows(data: Dataset, split: str) -> list[bytes]:
    return [image.numpy().tobytes() for image in data[split].images]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(3, 40), min_size=2, max_size=6), st.integers(0, 2**32 - 1))
def test_the_shares_cover_every_image_once_and_have_every_class(counts: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    parts = stratified(labels, [0.2, 0.2], seed, np.arange(len(labels)))
    assert sorted(torch.cat(parts).tolist()) == list(range(len(labels)))
    for part in parts:
        assert set(labels[part.numpy()]) == set(range(len(counts)))
    for label, count in enumerate(counts):
        assert int((labels[parts[0].numpy()] == label).sum()) == max(1, round(0.2 * count))


def test_one_set_is_cut_into_splits_that_never_overlap(make_pair: MakePair) -> None:
    data = load_dataset(make_pair(300, classes=5))
    train, validation, test = (set(rows(data, name)) for name in ("train", "validation", "test"))
    assert (len(train), len(validation), len(test)) == (180, 60, 60)
    assert len(train | validation | test) == len(train) + len(validation) + len(test)
    assert set(rows(data, "calibration")) <= train


def test_images_and_labels_stay_together(make_pair: MakePair) -> None:
    images, labels = make_pair(300, classes=5)
    label_of = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    data = load_dataset((images, labels))
    for split in data.splits.values():
        assert [label_of[image.numpy().tobytes()] for image in split.images] == split.labels.tolist()


def test_the_cut_is_the_same_each_time_and_follows_the_seed(make_pair: MakePair) -> None:
    first, again, other = (load_dataset(make_pair(120), seed=seed)["test"].hash for seed in (0, 0, 1))
    assert first == again != other


def test_a_given_test_set_is_kept_whole_and_in_order(make_pair: MakePair) -> None:
    images, labels = make_pair(31, seed=1)
    data = load_dataset({"train": make_pair(100), "test": (images, labels)})
    assert data["test"].images.numpy().tobytes() == images.tobytes()
    assert data["test"].labels.tolist() == labels.tolist()
    assert len(data["train"]) + len(data["validation"]) == 100


def test_three_given_sets_are_kept_whole(make_pair: MakePair) -> None:
    data = load_dataset({"train": make_pair(50), "val": make_pair(20, seed=1), "test": make_pair(30, seed=2)})
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 50, "calibration": 50, "validation": 20, "test": 30,
    }  # fmt: skip


def test_without_a_test_set_the_validation_set_stands_in_and_a_note_says_so(make_pair: MakePair) -> None:
    data = load_dataset({"train": make_pair(50), "val": make_pair(20, seed=1)})
    assert rows(data, "test") == [image.tobytes() for image in make_pair(20, seed=1)[0]]
    assert "There is no test set; the validation set is used as test." in data.notes


def test_calibration_is_a_part_of_train_with_every_class_in_proportion(make_pair: MakePair) -> None:
    images, _ = make_pair(4000, (1, 2, 2))
    labels = (np.arange(4000) % 10 == 0).astype(int)
    data = load_dataset({"train": (images, labels), "test": (images[:20], labels[:20])})
    share = data["calibration"].labels.float().mean()
    assert abs(len(data["calibration"]) - 1000) <= 2
    assert abs(share - 0.1) < 0.005
    assert set(rows(data, "calibration")) <= set(rows(data, "train"))


def test_images_that_are_equal_go_to_the_same_split(make_pair: MakePair) -> None:
    images, labels = make_pair(60)
    data = load_dataset((np.repeat(images, 3, 0), np.repeat(labels, 3)))
    train, validation, test = (set(rows(data, name)) for name in ("train", "validation", "test"))
    assert len(train | validation | test) == len(train) + len(validation) + len(test)
    assert len(data["train"]) + len(data["validation"]) + len(data["test"]) == 180


def test_images_given_for_train_and_for_test_are_counted_in_a_note(make_pair: MakePair) -> None:
    images, labels = make_pair(60)
    other, other_labels = make_pair(30, seed=1)
    test = np.concatenate([other, images[:6]]), np.concatenate([other_labels, labels[:6]])
    data = load_dataset({"train": (images, labels), "validation": make_pair(30, seed=2), "test": test})
    assert "6 of the 36 test images also occur in train." in data.notes


def test_images_all_alike_are_cut_all_the_same() -> None:
    data = load_dataset((np.zeros((30, 1, 4, 4), np.uint8), np.arange(30) % 2))
    assert len(data["test"]) == 6
    assert any("also occur in train" in note for note in data.notes)


def test_fingerprints_are_equal_just_where_pixels_are() -> None:
    images = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
    images[1, 0, 1, 1] = 1
    images[3, 0, 0, 0] = 1
    prints = fingerprints(images)
    assert prints[0] == prints[2]
    assert len(np.unique(prints)) == 3
