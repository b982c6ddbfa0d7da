"""Files and folders of one's own: with progress, with cancel, and with a sentence where they cannot be used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.conftest import open_page
from tests.browser.launch import Served
from tests.browser.reading import read, wait_ready


@pytest.fixture(scope="module")
def own(browser: Browser, app: Served) -> Iterator[Page]:
    """A page of its own: what is opened here stays open."""
    with open_page(browser, app) as page:
        yield page


def make_images(folder: Path, classes: int, each: int = 15) -> Path:
    rng = np.random.default_rng(classes)
    for name in range(classes):
        place = folder / f"class{name}"
        place.mkdir(parents=True)
        for number in range(each):
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(place / f"{number}.png")
    (folder / "notes.txt").write_text("not an image")
    return folder


def opener(page: Page, kind: str) -> Locator:
    page.get_by_role("button", name=f"Open {kind}", exact=True).click()
    return page.get_by_role("dialog")


def test_a_file_of_another_kind_is_refused_in_the_dialog(own: Page, tmp_path: Path) -> None:
    size = read(own, "size")
    dialog = opener(own, "a model")
    (tmp_path / "net.h5").write_bytes(b"x")
    own.get_by_label("Open a model: file").set_input_files(tmp_path / "net.h5")
    expect(dialog.get_by_role("alert")).to_contain_text("net.h5 is of another kind")
    (tmp_path / "half.onnx").write_bytes(bytes(900_000))
    own.get_by_label("Open a model: file").set_input_files(tmp_path / "half.onnx")
    expect(dialog.get_by_role("alert")).to_contain_text("not a sound ONNX file", timeout=30_000)
    dialog.get_by_label("Or a path").fill("/no/such/file.onnx")
    dialog.get_by_role("button", name="Open", exact=True).click()
    expect(dialog.get_by_role("alert")).to_contain_text("There is no file or folder /no/such/file.onnx")
    own.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    assert read(own, "size") == size


def test_a_large_upload_can_be_cancelled_and_one_beyond_the_limit_is_refused(own: Page, tmp_path: Path) -> None:
    large = tmp_path / "large.onnx"
    with large.open("wb") as file:
        file.truncate(400_000_000)
    dialog = opener(own, "a model")
    own.get_by_label("Open a model: file").set_input_files(large)
    own.wait_for_function("document.querySelector('dialog[open] progress').value > 0", timeout=30_000)
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog.get_by_role("button", name="Choose a file…")).to_be_enabled(timeout=30_000)
    expect(dialog.locator(".wb-problem")).to_be_empty()
    with large.open("wb") as file:
        file.truncate(600_000_000)
    own.get_by_label("Open a model: file").set_input_files(large)
    expect(dialog.get_by_role("alert")).to_contain_text("may upload 500 MB", timeout=30_000)
    dialog.get_by_role("button", name="Close").click()


def test_a_folder_of_images_is_opened_and_told(own: Page, tmp_path: Path) -> None:
    dialog = opener(own, "data")
    own.get_by_label("Open data: folder").set_input_files(make_images(tmp_path / "pets", 10))
    expect(dialog).to_be_hidden(timeout=60_000)
    wait_ready(own)
    assert read(own, "accuracy").n == 30
    assert own.get_by_label("Data", exact=True).input_value() == "pets"
    facts = own.locator(".wb-field", has=own.get_by_label("Data", exact=True)).locator("> p")
    expect(facts).to_contain_text("were scaled")
    own.wait_for_function("location.hash.includes('data=file:pets')", timeout=20_000)


def test_a_folder_of_other_classes_waits_for_a_model_and_can_be_discarded(own: Page, tmp_path: Path) -> None:
    before = own.get_by_label("Data", exact=True).input_value()
    dialog = opener(own, "data")
    own.get_by_label("Open data: folder").set_input_files(make_images(tmp_path / "birds", 3))
    expect(dialog).to_be_hidden(timeout=60_000)
    waiting = own.locator(".wb-pending")
    expect(waiting).to_contain_text("birds is loaded and waits for a model that fits")
    expect(waiting).to_contain_text("10 classes")
    assert own.get_by_label("Data", exact=True).input_value() == before
    waiting.get_by_role("button", name="Discard").click()
    expect(waiting).to_be_hidden()


def test_an_empty_folder_says_what_it_needs(own: Page, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "readme.txt").write_text("nothing here")
    dialog = opener(own, "data")
    own.get_by_label("Open data: folder").set_input_files(tmp_path / "bare")
    expect(dialog.get_by_role("alert")).to_contain_text("has no images")
    dialog.get_by_role("button", name="Close").click()
