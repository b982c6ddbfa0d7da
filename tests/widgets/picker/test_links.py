"""The page's address brings back what is shown, and a link opens what it can."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import workbench as wb
from tests.widgets.conftest import wait_until
from tests.widgets.fake_session import FakeSession
from tests.widgets.picker.conftest import Opened
from widgets import PickerView, Workbench
from widgets.base.marks import marks_of
from widgets.recipe.link import write_link
from workbench.recipe import Recipe

QUANTIZED = "- quantize: {bits: 4}"
STEPS = Recipe.parse(QUANTIZED).to_data()


def test_a_link_to_what_is_being_loaded_does_not_load_it_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    started, free = threading.Event(), threading.Event()
    opened: list[FakeSession] = []

    def open_slowly(model: str, data: str) -> Any:
        started.set()
        assert free.wait(10)
        opened.append(FakeSession())
        return opened[-1]

    monkeypatch.setattr("widgets.picker.loading.open_session", open_slowly)
    view = PickerView()
    thread = view.choose("", "")
    assert started.wait(10)
    view.follow(write_link("resnet20", "fashion_mnist", Recipe.parse(QUANTIZED).to_data(), ("fc",)), 3)
    free.set()
    thread.join(10)
    assert len(opened) == 1
    assert opened[0].recipe == Recipe.parse(QUANTIZED)
    assert marks_of(opened[0]).locked == {"fc"}
    assert view.address["answered"] == 3
    view.close()
    opened[0].close()


def test_the_address_brings_back_what_is_shown(opened: Opened, images: wb.Dataset) -> None:
    marks_of(opened.session).lock([opened.session.layers[0].name])
    opened.session.apply(QUANTIZED)
    fragment = wait_until(opened.view, "address", lambda address: "recipe" in address["fragment"])["fragment"]
    other = Opened(images)
    other.follow(write_link("lenet5", "fashion_mnist", []))
    assert other.session.model.name == "lenet5"
    other.follow(fragment)
    assert other.session.model.name == "lenet300"
    assert other.session.recipe == opened.session.recipe
    assert marks_of(other.session).locked == marks_of(opened.session).locked
    other.view.close()
    for session in other.sessions:
        session.close()


def test_a_link_to_what_is_shown_only_sets_the_recipe(opened: Opened) -> None:
    opened.follow(write_link("lenet300", "fashion_mnist", Recipe.parse(QUANTIZED).to_data()))
    assert opened.session.recipe == Recipe.parse(QUANTIZED)
    opened.follow(write_link("lenet300", "fashion_mnist", []))
    assert opened.session.recipe == Recipe()
    assert len(opened.sessions) == 1


def test_a_page_as_it_opens_has_a_plain_address(live: FakeSession) -> None:
    view = PickerView(live)
    assert view.address["fragment"] == ""
    live.apply(Recipe.parse(QUANTIZED))
    wait_until(view, "address", lambda address: address["fragment"].endswith("&v=1"))
    view.close()


@pytest.mark.parametrize(
    ("fragment", "said"),
    [
        (write_link("file:mine.onnx", "fashion_mnist", STEPS), "opened from a file"),
        (write_link("resnet2000", "fashion_mnist", STEPS), "not known here"),
        (write_link("lenet300", "file:pets", STEPS), "opened from a file"),
        (write_link("torchvision:resnet18", "fashion_mnist", STEPS), "not known here"),
        (write_link("/no/such/net.onnx", "fashion_mnist", STEPS), "There is no file"),
        (write_link("lenet300", "fashion_mnist", STEPS).replace("v=1", "v=2"), "newer version"),
        (write_link("lenet300", "fashion_mnist", STEPS)[:-10], "damaged"),
    ],
)
def test_a_bad_link_is_one_sentence_its_recipe_is_kept_and_the_page_is_usable(
    opened: Opened, fragment: str, said: str
) -> None:
    opened.follow(fragment)
    assert said in opened.view.error
    assert len(opened.texts) == 1
    assert "quantize" in opened.texts[0]
    assert len(opened.sessions) == 1
    opened.session.measure("- prune: {ratio: 0.5}")


def test_a_link_with_a_recipe_that_does_not_fit_opens_the_rest(opened: Opened) -> None:
    opened.follow(write_link("lenet5", "fashion_mnist", [{"quantize": {"bits": 4, "layers": ["stage1.*"]}}]))
    assert opened.session.model.name == "lenet5"
    assert opened.session.recipe == Recipe()
    assert "stage1" in opened.texts[0]


def test_the_workbench_shows_a_links_unusable_recipe_in_its_editor(live: FakeSession) -> None:
    page = Workbench(live)
    page.picker.follow(write_link("resnet20", "fashion_mnist", [{"distil": {"teacher": "x"}}]), 1)
    editor = page.panels["recipe"]
    assert page.tabs.chosen == "recipe"
    assert editor.draft["edited"]
    assert "distil" in editor.draft["text"]
    assert "there is no technique 'distil'" in editor.checked["problem"]
    page.close()


def test_the_address_costs_little_while_a_slider_moves(live: FakeSession, sent: list[Any]) -> None:
    view = PickerView(live)
    wait_until(view, "model_facts", lambda text: "%" in text)
    sent.clear()
    live.apply(Recipe.parse("- prune: {ratio: 0.6}\n- quantize: {bits: 4}"))
    wait_until(view, "address", lambda address: "quantize" in address["fragment"])
    view.close()
    assert sum(size for _, size in sent) < 1_500, sent
