"""The values a loader returns."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from workbench.data.dataset import UNLABELLED, Dataset, Normalization, Split
from workbench.errors import WorkbenchError

IMAGES = torch.randint(0, 256, (20, 3, 5, 4), generator=torch.Generator().manual_seed(0)).byte()
DATA = Dataset("toy", {"test": Split("test", IMAGES, torch.arange(20) % 2)}, ("a", "b"), Normalization.of(IMAGES))


def test_normalised_training_images_have_mean_0_and_std_1_in_each_channel() -> None:
    images = Normalization.of(IMAGES)(IMAGES)
    assert images.mean((0, 2, 3)).abs().max() < 1e-3
    assert (images.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-3


def test_float_images_are_normalised_by_their_own_range() -> None:
    floats = IMAGES.float() * 3 - 7
    images = Normalization.of(floats)(floats)
    assert images.mean((0, 2, 3)).abs().max() < 1e-3
    assert (images.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-3


def test_a_constant_channel_is_normalised_to_finite_values() -> None:
    assert Normalization.of(torch.zeros(4, 1, 2, 2))(torch.zeros(4, 1, 2, 2)).isfinite().all()


def test_normalising_leaves_the_images_as_they_were() -> None:
    floats = IMAGES.float()
    before = floats.clone()
    Normalization((0.5,), (0.1,))(floats)
    assert floats.equal(before)


@pytest.mark.parametrize(("mean", "std"), [((0.0,), (0.0,)), ((0.0, 0.0), (1.0,)), ((), ())])
def test_a_normalisation_that_divides_by_nothing_is_refused(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    with pytest.raises(WorkbenchError):
        Normalization(mean, std)


def test_a_normalisation_of_other_channels_than_the_images_is_refused() -> None:
    with pytest.raises(WorkbenchError, match="2 channels and the images have 3"):
        Normalization((0.0, 0.0), (1.0, 1.0))(IMAGES)


def test_an_unknown_split_names_those_there_are() -> None:
    with pytest.raises(WorkbenchError, match=r"no split 'train'; it has test \(20\)"):
        DATA["train"]


def test_images_of_another_size_than_the_model_takes_are_refused() -> None:
    DATA.require_image_shape((3, 5, 4), "Model 'm'")
    with pytest.raises(WorkbenchError, match=r"Model 'm' takes images of 1×28×28 .* 'toy' has 3×5×4; resize"):
        DATA.require_image_shape((1, 28, 28), "Model 'm'")


def test_a_split_hash_follows_pixels_labels_and_shape() -> None:
    split = DATA["test"]
    same = Split("other name", IMAGES.clone(), split.labels.clone())
    changed = IMAGES.clone()
    changed[0, 0, 0, 0] ^= 1
    others = [
        Split("test", changed, split.labels),
        Split("test", IMAGES, split.labels.flip(0)),
        Split("test", IMAGES.reshape(20, 3, 4, 5), split.labels),
    ]
    assert same.hash == split.hash
    assert len({split.hash, *(other.hash for other in others)}) == 4


def test_the_same_classes_in_another_order_are_numbered_as_the_model_does() -> None:
    data = replace(DATA, splits={**DATA.splits, "train": Split("train", IMAGES, torch.full((20,), UNLABELLED))})
    ordered = data.in_order(("b", "a"))
    assert ordered.classes == ("b", "a")
    assert ordered["test"].labels.equal(1 - DATA["test"].labels)
    assert not ordered["train"].labelled
    assert ordered["train"].labels.equal(data["train"].labels)
    assert "in the model's order (b, a, ...)" in ordered.notes[-1]


@pytest.mark.parametrize("classes", [(), ("a", "b"), ("b", "c"), ("b", "a", "c"), ("a", "a")])
def test_data_stay_as_they_are_where_the_classes_match_or_are_others(classes: tuple[str, ...]) -> None:
    assert DATA.in_order(classes) is DATA


def test_some_images_of_a_split_sorted_by_class_are_of_all_classes() -> None:
    split = Split("test", torch.zeros(1000, 1, 1, 1), torch.arange(1000) // 100)
    places = split.drawn(100)
    assert len(set(places.tolist())) == 100
    assert places.equal(split.drawn(100))
    assert len(split.labels[places].unique()) == 10
    assert sorted(split.drawn(5000).tolist()) == list(range(1000))
