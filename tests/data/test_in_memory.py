"""Pairs of arrays or tensors, torch datasets and loaders."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, Subset, SubsetRandomSampler, TensorDataset
from torch.utils.data import Dataset as TorchDataset

from tests.data.conftest import Pair
from workbench.data.dataset import Dataset, Normalization
from workbench.data.load import load_dataset

MakePair = Callable[..., Pair]


def tensors(pair: Pair) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(pair[0]), torch.from_numpy(pair[1])


def test_arrays_and_tensors_give_the_same_dataset(make_pair: MakePair) -> None:
    arrays = load_dataset(make_pair())
    again = load_dataset(tensors(make_pair()))
    assert {name: split.hash for name, split in arrays.splits.items()} == {
        name: split.hash for name, split in again.splits.items()
    }


@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8), (3, 8, 8), (8, 8, 3), (8, 8, 1), (4, 8, 8)])
def test_images_come_out_with_channels_first(make_pair: MakePair, shape: tuple[int, ...]) -> None:
    images, labels = make_pair(30, shape)
    data = load_dataset({"train": (images, labels), "test": (images, labels)})
    channels = 1 if len(shape) == 2 else min(shape)
    assert data.image_shape == (channels, 8, 8)
    assert data["test"].images.is_contiguous()
    if shape[-1] == 3:
        assert data["test"].images[5, 2].numpy().tolist() == images[5, :, :, 2].tolist()


def test_uint8_images_are_normalised_by_train_and_float_images_are_left_as_they_are(
    make_pair: MakePair,
) -> None:
    images, labels = make_pair()
    pixels, floats = load_dataset((images, labels)), load_dataset((images / 255, labels))
    assert pixels.normalization == Normalization.of(pixels["train"].images)
    assert floats["train"].images.dtype == torch.float32
    assert floats.normalization == Normalization((0.0,), (1.0,))
    assert floats.normalization(floats["test"].images).equal(floats["test"].images)
    assert any("used as they are" in note for note in floats.notes)


def test_a_given_normalisation_is_used(make_pair: MakePair) -> None:
    assert load_dataset(make_pair(), normalization=(0.5, 0.25)).normalization == Normalization((0.5,), (0.25,))
    colour = load_dataset(make_pair(60, (3, 4, 4)), normalization=((0.1, 0.2, 0.3), (1, 2, 3)))
    assert colour.normalization == Normalization((0.1, 0.2, 0.3), (1.0, 2.0, 3.0))


def test_class_names_are_those_given_or_numbers(make_pair: MakePair) -> None:
    assert load_dataset(make_pair()).classes == ("0", "1", "2")
    assert load_dataset(make_pair(), classes=["a", "b", "c"]).classes == ("a", "b", "c")


def test_labels_may_be_names(make_pair: MakePair) -> None:
    images, labels = make_pair()
    data = load_dataset((images, np.array(["ant", "bee", "cow"])[labels]))
    assert data.classes == ("ant", "bee", "cow")
    assert data["train"].labels.max() == 2


def test_two_pairs_are_train_and_test(make_pair: MakePair) -> None:
    data = load_dataset((make_pair(50), make_pair(20, seed=1)))
    assert len(data["test"]) == 20


def test_a_dataset_passes_through(make_pair: MakePair) -> None:
    data = load_dataset(make_pair())
    assert load_dataset(data) is data
    changed = load_dataset(data, normalization=(0.5, 0.5))
    assert isinstance(changed, Dataset)
    assert changed.normalization.mean == (0.5,)
    assert changed.splits is data.splits


def test_a_shuffling_loader_gives_the_same_splits_each_time(make_pair: MakePair) -> None:
    dataset = TensorDataset(*tensors(make_pair()))
    torch.manual_seed(3)
    expected = load_dataset(dataset)["test"].hash
    for _ in range(2):
        assert load_dataset(DataLoader(dataset, batch_size=7, shuffle=True))["test"].hash == expected
    assert load_dataset(DataLoader(dataset, batch_size=7))["test"].hash == expected


def test_reading_a_loader_leaves_the_random_numbers_alone(make_pair: MakePair) -> None:
    loader = DataLoader(TensorDataset(*tensors(make_pair())), shuffle=True)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    load_dataset(loader)
    assert torch.rand(1).equal(expected)


def test_a_loader_with_a_subset_sampler_gives_that_subset(make_pair: MakePair) -> None:
    images, labels = tensors(make_pair())
    dataset = TensorDataset(images, labels)
    data = load_dataset({
        "train": DataLoader(dataset, sampler=SubsetRandomSampler(range(40))),
        "test": Subset(dataset, range(40, 60)),
    })  # fmt: skip
    assert data["test"].images.equal(images[40:])
    assert len(data["train"]) + len(data["validation"]) == 40


def test_a_batch_sampler_of_the_persons_own_is_read_in_order(make_pair: MakePair) -> None:
    images, labels = tensors(make_pair())
    dataset = TensorDataset(images, labels)
    batches = [[5, 3], [1, 0], [2, 4]] + [[number] for number in range(59, 5, -1)]
    data = load_dataset({"train": dataset, "test": DataLoader(dataset, batch_sampler=batches)})
    assert data["test"].images.equal(images)


def test_a_loader_that_does_not_batch_is_read_one_by_one(make_pair: MakePair) -> None:
    pair = make_pair(60, (3, 4, 4))
    loader = DataLoader(TensorDataset(*tensors(pair)), batch_size=None)
    assert load_dataset(loader)["test"].hash == load_dataset(pair)["test"].hash


def test_a_loader_that_drops_its_last_batch_still_gives_all_images(make_pair: MakePair) -> None:
    pair = make_pair()
    loader = DataLoader(TensorDataset(*tensors(pair)), batch_size=7, shuffle=True, drop_last=True)
    assert load_dataset(loader)["test"].hash == load_dataset(pair)["test"].hash


def test_an_iterable_dataset_is_read_to_its_end(make_pair: MakePair) -> None:
    pair = make_pair()

    class Stream(IterableDataset):  # type: ignore[type-arg]
        def __iter__(self):  # type: ignore[no-untyped-def]
            return zip(*tensors(pair), strict=True)

    assert load_dataset(Stream())["test"].hash == load_dataset(pair)["test"].hash
    assert load_dataset(DataLoader(Stream(), batch_size=8))["test"].hash == load_dataset(pair)["test"].hash


def test_a_dataset_of_pil_images_keeps_its_class_names(make_pair: MakePair) -> None:
    pixels, labels = make_pair(60, (6, 5, 3), classes=2)

    class Pictures(TorchDataset):  # type: ignore[type-arg]
        classes = ["cat", "dog"]  # noqa: RUF012

        def __len__(self) -> int:
            return 60

        def __getitem__(self, index: int) -> dict[str, object]:
            return {"image": Image.fromarray(pixels[index]), "label": int(labels[index])}

    data = load_dataset(Subset(Pictures(), range(60)))
    assert data.classes == ("cat", "dog")
    assert data.image_shape == (3, 6, 5)
    assert data["test"].hash == load_dataset((pixels, labels))["test"].hash


def test_pictures_of_16_bits_are_scaled_not_clipped() -> None:
    ramp = (np.arange(48, dtype=np.uint16) * 1300).reshape(6, 8)

    class Deep(TorchDataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return 20

        def __getitem__(self, index: int) -> tuple[Image.Image, int]:
            return Image.fromarray(ramp), index % 2

    assert load_dataset(Deep())["train"].images[0, 0].tolist() == (ramp >> 8).tolist()


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64])
def test_tensors_of_rare_types_are_read(make_pair: MakePair, dtype: torch.dtype) -> None:
    images, labels = (torch.from_numpy(array) for array in make_pair())
    given = images.to(torch.int64).to(dtype), labels.to(dtype)
    assert load_dataset(given)["test"].hash == load_dataset((images, labels))["test"].hash


def test_long_doubles_are_read(make_pair: MakePair) -> None:
    images, labels = make_pair()
    assert load_dataset((images.astype(np.longdouble), labels))["test"].images.dtype == torch.float32


def test_masks_of_0_and_1_are_normalised_and_told() -> None:
    generator = np.random.default_rng(0)
    masks = (generator.random((400, 1, 8, 8)) < 0.05).astype(np.uint8)
    data = load_dataset((masks, np.arange(400) % 2))
    images = data.normalization(data["train"].images)
    assert abs(float(images.mean())) < 0.01
    assert float(images.std()) == pytest.approx(1, abs=0.01)
    assert any("whole numbers up to 1" in note for note in data.notes)
