"""Made images are chosen like a data set: learnt from, while the figures stay those of the real ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
import torch

import workbench as wb
from widgets import PickerView
from widgets.picker.made import base_of, made_names
from workbench.train.synthetic import SOURCES

MIXED = "fashion_mnist+mixup"


@pytest.fixture
def view(monkeypatch: pytest.MonkeyPatch) -> Iterator[PickerView]:
    data = wb.load_dataset("fashion_mnist")
    few = {name: split.take(torch.arange(50)) for name, split in data.splits.items()}
    images = dataclasses.replace(data, splits=few)
    load = wb.load_dataset
    monkeypatch.setattr(
        "workbench.data.load.load_dataset", lambda source: images if source == "fashion_mnist" else load(source)
    )
    monkeypatch.setitem(SOURCES, "mixup", dataclasses.replace(SOURCES["mixup"], images=40))
    opened: list[wb.Session] = [wb.Session("lenet300", images, history=":memory:")]
    view = PickerView(opened[0], loaded=opened.append)
    yield view
    view.close()
    for session in opened:
        session.close()


def choose(view: PickerView, name: str, kind: str = "data") -> None:
    view._handle_custom_msg({"do": "choose", "kind": kind, "name": name}, [])
    thread = view._loader._thread
    if thread is not None:
        thread.join(60)


def test_made_images_are_chosen_beside_the_data_set_and_left_again(view: PickerView) -> None:
    assert view.session is not None
    test = view.session.data["test"]
    assert [name for name in view.datasets if "+" in name] == [
        "fashion_mnist+impressions", "fashion_mnist+class_gan", MIXED,
    ]  # fmt: skip
    choose(view, MIXED)
    assert view.chosen["data"] == MIXED
    assert view.session.data.name == MIXED
    assert len(view.session.data["train"]) == 40
    assert torch.equal(view.session.data["test"].images, test.images)
    assert "mixtures of two training images (mixup, 'lenet300')" in view.data_facts
    assert "fashion_mnist" in view.datasets
    assert "data=fashion_mnist" in view.address["fragment"]
    choose(view, "fashion_mnist")
    assert len(view.session.data["train"]) == 50


def test_another_model_gets_images_of_its_own(view: PickerView) -> None:
    choose(view, MIXED)
    choose(view, "lenet5", "model")
    assert view.session is not None
    assert view.session.model.name == "lenet5"
    assert "(mixup, 'lenet5')" in view.session.data.notes[-1]


def test_what_cannot_be_made_is_told_and_the_session_stays(view: PickerView) -> None:
    choose(view, "fashion_mnist+deepinversion")
    assert "'lenet300' has no BatchNorm" in view.error
    assert view.chosen["data"] == "fashion_mnist"


def test_only_what_can_be_made_is_a_name_for_it() -> None:
    assert base_of("fashion_mnist+gan,images=100") == "fashion_mnist"
    for name in ("fashion_mnist", "fashion_mnist+", "fashion_mnist+nonsense", "nowhere+gan", "pets + cats", None):
        assert base_of(name) == ""
    assert made_names("pets", wb.load_model("lenet300")) == []
    assert made_names("fashion_mnist", wb.load_model("resnet20"))[0] == "fashion_mnist+deepinversion"
