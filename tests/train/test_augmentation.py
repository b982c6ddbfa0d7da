"""Training images are mixed and changed as the papers say, and the same again from the same seed."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from workbench.data.dataset import Dataset, Normalization
from workbench.errors import WorkbenchError
from workbench.models.model import Model
from workbench.recipe import Recipe
from workbench.train.images.mixing import mixed
from workbench.train.images.passes import TrainingImages
from workbench.train.images.randaugment import rand_augmented
from workbench.train.jobs.job import train
from workbench.train.jobs.process import Within


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_mixup_averages_images_and_labels_by_the_same_share() -> None:
    labels = torch.arange(32) % 4
    images = F.one_hot(labels, 4).float()[:, :, None, None].expand(-1, -1, 5, 5)
    found, shares = mixed(images, labels, 4, "mixup", 1.0, chance())
    torch.testing.assert_close(found.mean((2, 3)), shares)  # an image here says what it is made of
    torch.testing.assert_close(shares.sum(1), torch.ones(32))
    assert len(shares[shares.max(1).values < 0.999]) > 10


def test_cutmix_puts_in_a_rectangle_and_labels_say_how_large_it_is() -> None:
    labels = torch.arange(32) % 4
    images = F.one_hot(labels, 4).float()[:, :, None, None].expand(-1, -1, 16, 12)
    seen = set()
    for seed in range(20):
        found, shares = mixed(images, labels, 4, "cutmix", 1.0, chance(seed))
        torch.testing.assert_close(found.mean((2, 3)), shares)
        assert set(found.unique().tolist()) <= {0.0, 1.0}
        changed = (found != images).any(1)
        if changed.any():
            one = changed[changed.flatten(1).any(1)][0]
            assert int(one.sum()) == int(one.any(1).sum()) * int(one.any(0).sum())  # a rectangle
        seen.add(round(float(shares[shares > 0].min()), 3))
    assert len(seen) > 5


def test_cross_entropy_with_mixed_labels_is_the_weighted_sum_of_both() -> None:
    labels, logits = torch.tensor([0, 1, 2, 1]), torch.randn(4, 3, generator=chance())
    _, shares = mixed(torch.zeros(4, 1, 2, 2), labels, 3, "mixup", 0.4, chance(3))
    expected = -(shares * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(F.cross_entropy(logits, shares), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_randaugment_changes_images_by_a_chance_of_its_own_and_keeps_them_pixels(channels: int) -> None:
    images = torch.rand(32, channels, 12, 12, generator=chance())
    torch.manual_seed(5)
    before = torch.get_rng_state()
    found = rand_augmented(images, 9, chance(1))
    assert torch.equal(torch.get_rng_state(), before)
    assert found.shape == images.shape
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    assert int((found != images).flatten(1).any(1).sum()) > 20
    torch.manual_seed(6)
    assert torch.equal(rand_augmented(images, 9, chance(1)), found)
    assert not torch.equal(rand_augmented(images, 9, chance(2)), found)


def test_a_batch_is_the_same_from_the_middle_of_an_epoch_on() -> None:
    images, labels = torch.randint(0, 256, (40, 1, 8, 8), dtype=torch.uint8), torch.arange(40) % 4
    source = TrainingImages(
        images, labels, Normalization((0.3,), (0.2,)), 8, "crop_flip", 3, 0.3, 9, "cutmix", 1.0, 4
    )  # fmt: skip
    whole, rest = list(source.batches(2)), list(source.batches(2, 3))
    assert len(whole) == 5
    for left, right in zip(whole[3:], rest, strict=True):
        assert all(torch.equal(one, other) for one, other in zip(left, right, strict=True))
    assert whole[0][2].shape == (8, 4)
    assert source.changed
    assert not replace(source, augment="none", erase=0.0, randaugment=0, mix="none").changed


@pytest.mark.parametrize("method", ["finetune: {", "distill: {loss: relation, "])
def test_a_model_learns_from_mixed_images(method: str, small_model: Model, small_data: Dataset) -> None:
    recipe = Recipe.parse(f"- {method}epochs: 4, batch: 16, learning_rate: 0.05, augment: none, mix: mixup}}")
    trained = train(small_model, small_data, recipe, place=Within()).result()
    assert trained.after.value > trained.before.value + 0.2


def test_what_randaugment_needs_is_said(
    small_model: Model, small_data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe.parse("- finetune: {epochs: 1, randaugment: 9}")
    with pytest.raises(WorkbenchError, match="RandAugment needs pixels from 0 to 1"):
        train(small_model, small_data, recipe, place=Within()).result()
    monkeypatch.setitem(sys.modules, "kornia.augmentation.auto", None)
    with pytest.raises(WorkbenchError, match="install it with pip install 'compression-workbench"):
        rand_augmented(torch.rand(2, 1, 8, 8), 5, chance())
