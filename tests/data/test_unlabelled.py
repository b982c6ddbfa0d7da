"""Images without labels are loaded from every kind of source, cut at random, and it is said what that leaves open."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data import Dataset as TorchDataset

from workbench.data.dataset import SPLITS, UNLABELLED, Dataset
from workbench.data.load import load_dataset
from workbench.errors import WorkbenchError

MakePair = Callable[..., tuple[np.ndarray, np.ndarray]]
MakeFolder = Callable[..., Path]


class Alone(TorchDataset):  # type: ignore[type-arg]
    """Images by themselves, as whatever ``show`` makes of them."""

    def __init__(self, images: np.ndarray, show: Callable[[np.ndarray], object]) -> None:
        self.images, self.show = images, show

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> object:
        return self.show(self.images[index])


def assert_unlabelled(data: Dataset, total: int) -> None:
    assert data.classes == ()
    assert sum(len(data[name]) for name in ("train", "validation", "test")) == total
    for name in SPLITS:
        assert not data[name].labelled
        assert data[name].labels.unique().tolist() == [UNLABELLED]
    assert any("have no labels" in note for note in data.notes)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: x,
        torch.from_numpy,
        lambda x: (x, None),
        lambda x: (x,),
        lambda x: (x, [None] * len(x)),
        lambda x: {"train": x},
        lambda x: TensorDataset(torch.from_numpy(x)),
        lambda x: DataLoader(TensorDataset(torch.from_numpy(x)), batch_size=7, shuffle=True),
        lambda x: Alone(x, torch.from_numpy),
        lambda x: Alone(x, lambda image: {"image": torch.from_numpy(image)}),
        lambda x: Alone(x, lambda image: Image.fromarray(image[0])),
        lambda x: Alone(x, lambda image: (image, None)),
        lambda x: DataLoader(Alone(x, torch.from_numpy), batch_size=7),
    ],
    ids=[
        "array", "tensor", "pair-none", "single", "list-of-none", "mapping", "tensor-dataset", "loader", "dataset",
        "dict-items", "pil", "pair-items", "loader-of-images",
    ],
)  # fmt: skip
def test_images_in_memory_need_no_labels(make_pair: MakePair, wrap: Callable[[np.ndarray], object]) -> None:
    images, _ = make_pair()
    data = load_dataset(wrap(images))
    assert_unlabelled(data, 60)
    found = torch.cat([data[name].images for name in ("train", "validation", "test")]).numpy()
    assert sorted(map(bytes, found)) == sorted(map(bytes, images))


def test_a_folder_without_class_folders_is_images_without_labels(make_folder: MakeFolder) -> None:
    assert_unlabelled(load_dataset(make_folder({"": 20})), 20)


def test_folders_of_sets_keep_their_images_apart_without_classes_too(make_folder: MakeFolder) -> None:
    data = load_dataset(make_folder({"train": 12, "test": 5}))
    assert_unlabelled(data, 17)
    assert len(data["test"]) == 5


def test_one_set_may_have_labels_and_another_none(make_folder: MakeFolder) -> None:
    data = load_dataset(make_folder({"train/a": 8, "train/b": 8, "test": 5}))
    assert data.classes == ("a", "b")
    assert data["train"].labelled
    assert data["validation"].labelled
    assert not data["test"].labelled
    assert "The test images of dataset 'pets' have no labels" in " ".join(data.notes)


def test_npz_needs_no_labels(make_pair: MakePair, tmp_path: Path) -> None:
    images, labels = make_pair()
    np.savez(tmp_path / "x.npz", x=images)
    assert_unlabelled(load_dataset(tmp_path / "x.npz"), 60)
    np.savez(tmp_path / "sets.npz", x_train=images, y_train=labels, x_test=images[:9])
    data = load_dataset(tmp_path / "sets.npz")
    assert (data["train"].labelled, data["test"].labelled) == (True, False)
    np.savez(tmp_path / "other.npz", x=images, answers=labels)  # these may well be the labels
    with pytest.raises(WorkbenchError, match="needs images and labels"):
        load_dataset(tmp_path / "other.npz")


def test_parquet_needs_no_labels(make_pair: MakePair, tmp_path: Path) -> None:
    images, _ = make_pair()
    encoded = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image[0]).save(file, "PNG")
        encoded.append(file.getvalue())
    names = [f"{number}.png" for number in range(60)]
    for number, extra in enumerate(({}, {"path": names}, {"label": pa.array([None] * 60, pa.int64())})):
        pq.write_table(pa.table({"image": encoded, **extra}), tmp_path / f"{number}.parquet")
        assert_unlabelled(load_dataset(tmp_path / f"{number}.parquet"), 60)


def test_classes_may_be_named_all_the_same(make_pair: MakePair) -> None:
    assert load_dataset(make_pair()[0], classes="abc").classes == ("a", "b", "c")


def test_too_few_to_divide_are_refused(make_pair: MakePair) -> None:
    with pytest.raises(WorkbenchError, match="too few images"):
        load_dataset(make_pair(2)[0])
