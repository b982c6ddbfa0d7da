"""The files: as large as promised, and they open here again."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

import workbench as wb
from tests.browser.conftest import open_page
from tests.browser.launch import Served
from tests.browser.reading import read, wait_settled
from workbench.recipe import Recipe

RECIPE = "- prune: {ratio: 0.6}\n- quantize: {bits: 4}"
INT8 = "- quantize: {bits: 8, activations: {bits: 8}}"


def show(page: Page, recipe: str) -> None:
    """Set a recipe through the editor and open the Export part of the Deploy tab."""
    page.get_by_role("tab", name="Recipe").click()
    page.get_by_label("Recipe in YAML").fill(recipe)
    page.get_by_label("Recipe in YAML").press("Control+Enter")
    wait_settled(page, recipe)
    page.get_by_role("tab", name="Deploy").click()
    page.get_by_role("tab", name="Export").click()
    digest = Recipe.parse(recipe).hash[:8]
    expect(page.locator("[data-file=packed] code")).to_contain_text(digest)


def download(page: Page, kind: str, folder: Path) -> Path:
    row = page.locator(f"[data-file={kind}]")
    expect(row).to_have_attribute("data-exact", "true", timeout=30_000)
    promised = int(row.get_attribute("data-bytes") or 0)
    with page.expect_download() as started:
        row.get_by_role("button", name="Download").click()
    path = folder / started.value.suggested_filename
    started.value.save_as(path)
    assert path.stat().st_size == promised
    expect(row.get_by_role("status")).to_contain_text("downloaded")
    return path


def test_all_files_download_at_the_size_promised_and_hold_the_recipe(page: Page, tmp_path: Path) -> None:
    show(page, RECIPE)
    packed, onnx, text = (download(page, kind, tmp_path) for kind in ("packed", "onnx", "recipe"))
    assert packed.stat().st_size == read(page, "size").value
    assert wb.load_compressed(packed).recipe == Recipe.parse(RECIPE)
    assert Recipe.parse(text.read_text()) == Recipe.parse(RECIPE)
    assert wb.load_model(onnx).input_shape == (1, 28, 28)
    assert {path.stem for path in (packed, onnx, text)} == {f"resnet20-{Recipe.parse(RECIPE).hash[:8]}"}


def test_an_int8_file_has_its_exact_size_before_it_is_downloaded(page: Page, tmp_path: Path) -> None:
    show(page, INT8)
    assert download(page, "onnx", tmp_path).stat().st_size > 0
    expect(page.locator("[data-file=onnx]")).to_contain_text("int8 kernels")


def test_a_served_page_cannot_write_to_the_server(page: Page) -> None:
    page.get_by_role("tab", name="Deploy").click()
    page.get_by_role("tab", name="Export").click()
    expect(page.get_by_label("Path to save to")).to_be_hidden()


@pytest.mark.slow
def test_both_files_open_here_again(browser: Browser, app: Served, tmp_path: Path) -> None:
    with open_page(browser, app) as page:
        show(page, RECIPE)
        packed, onnx = (download(page, kind, tmp_path) for kind in ("packed", "onnx"))
        size, accuracy = read(page, "size").value, read(page, "accuracy").value
        page.get_by_role("button", name="Open a model", exact=True).click()
        page.get_by_label("Open a model: file").set_input_files(onnx)
        expect(page.get_by_role("dialog")).to_be_hidden(timeout=60_000)
        wait_settled(page, Recipe())
        assert page.get_by_label("Model", exact=True).input_value() == onnx.name
        assert abs(read(page, "accuracy").value - accuracy) < 0.002, "the same weights"
        page.get_by_role("button", name="Open a model", exact=True).click()
        page.get_by_label("Open a model: file").set_input_files(packed)
        expect(page.get_by_role("dialog")).to_be_hidden(timeout=60_000)
        wait_settled(page, RECIPE)
        assert page.get_by_label("Model", exact=True).input_value() == "resnet20"
        assert read(page, "size").value == size


def test_a_file_for_a_runtime_is_made_and_what_it_lacks_is_said(page: Page, tmp_path: Path) -> None:
    show(page, "- prune: {ratio: 0.6}")
    row = page.locator("[data-file=runtime]")
    row.get_by_label("For a runtime", exact=True).select_option("onnx-int8")
    with page.expect_download() as started:
        row.get_by_role("button", name="Make the file").click()
    assert started.value.suggested_filename.endswith(".int8.onnx")
    expect(row.get_by_role("status").first).to_contain_text("bytes downloaded")
    expect(row.get_by_role("list")).to_contain_text("stores zeros like other weights")


def test_a_format_that_is_not_installed_gives_its_install_line(page: Page) -> None:
    from workbench.deploy.formats import FORMATS

    missing = [entry for entry in FORMATS.values() if not entry.installed]
    if not missing:
        return
    page.get_by_role("tab", name="Deploy").click()
    page.get_by_role("tab", name="Export").click()
    row = page.locator("[data-file=runtime]")
    row.get_by_label("For a runtime", exact=True).select_option(missing[0].name)
    expect(row).to_contain_text(missing[0].install)
    expect(row.get_by_role("button", name="Make the file")).to_be_disabled()
