"""The recipe as text, and the page's address, which brings it back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.launch import Served
from tests.browser.reading import read, wait_settled
from widgets.recipe.link import read_link, write_link
from workbench.recipe import Recipe

SMALL = "- prune: {ratio: 0.4}\n- quantize: {bits: 5}"


@pytest.fixture
def editor(page: Page) -> Iterator[Locator]:
    page.get_by_role("tab", name="Recipe").click()
    yield page.get_by_label("Recipe in YAML")
    discard = page.locator(".wb-recipes").get_by_role("button", name="Discard")
    if discard.is_visible():
        discard.click()


@contextmanager
def open_link(browser: Browser, app: Served, fragment: str) -> Iterator[Page]:
    """Open the app at an address, as someone who was sent it."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(f"{app.url}#{fragment}")
    page.wait_for_selector("[data-metric=size][data-recipe]", timeout=60_000)
    yield page
    page.close(run_before_unload=True)
    context.close()


def address(page: Page, words: str) -> Recipe:
    """Wait until the address has ``words``; return the recipe it holds."""
    page.wait_for_function("words => decodeURIComponent(location.hash).includes(words)", arg=words, timeout=20_000)
    return Recipe.parse(read_link(page.evaluate("location.hash")).recipe)


def test_typed_text_is_checked_in_place_and_applied_by_ctrl_enter(page: Page, editor: Locator) -> None:
    before = read(page, "size")
    editor.fill("- prune: {ratio: 1.4}")
    problem = page.locator(".wb-recipes .wb-problem")
    expect(problem).to_contain_text("ratio is 1.4")
    expect(editor).to_have_attribute("aria-invalid", "true")
    editor.fill("- quantize: {bits: 4, layers: [nosuch]}")
    expect(problem).to_contain_text("'nosuch' matches no layer")
    assert read(page, "size") == before, "nothing is applied by itself"
    editor.fill(SMALL)
    expect(problem).to_be_empty()
    editor.press("Control+Enter")
    wait_settled(page, SMALL)
    expect(page.get_by_role("slider", name="Pruning ratio", exact=True)).to_have_value("40")
    expect(page.locator(".wb-recipes").get_by_role("button", name="Apply")).to_be_hidden()


def test_unsaved_text_is_left_alone_by_the_sliders_until_it_is_discarded(page: Page, editor: Locator) -> None:
    mine = "- prune: {ratio: 0.1}\n# not yet"
    editor.fill(mine)
    page.get_by_role("slider", name="Bit-width", exact=True).fill("4")
    wait_settled(page, "- quantize: {bits: 4}")
    expect(editor).to_have_value(mine)
    page.locator(".wb-recipes").get_by_role("button", name="Discard").click()
    expect(editor).to_have_value("- quantize: {bits: 4}\n")


def test_tab_leaves_the_editor(page: Page, editor: Locator) -> None:
    editor.focus()
    page.keyboard.press("Tab")
    assert not editor.evaluate("node => node === document.activeElement")


def test_a_recipe_goes_to_a_file_and_comes_back_from_it(page: Page, editor: Locator, tmp_path: Path) -> None:
    editor.fill(SMALL)
    editor.press("Control+Enter")
    wait_settled(page, SMALL)
    view = page.locator(".wb-recipes")
    with page.expect_download() as download:
        view.get_by_role("button", name="Download").click()
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    assert path.name == "resnet20-recipe.yaml"
    assert Recipe.parse(path.read_text()) == Recipe.parse(SMALL)
    page.get_by_role("button", name="Reset").click()
    wait_settled(page, Recipe())
    view.get_by_label("Recipe file").set_input_files(path)
    wait_settled(page, SMALL)
    (tmp_path / "bad.yaml").write_text("- distil: {}")
    view.get_by_label("Recipe file").set_input_files(tmp_path / "bad.yaml")
    expect(view.locator(".wb-problem")).to_contain_text("no technique 'distil'")
    expect(editor).to_have_value("- distil: {}")


def test_the_python_is_shown_and_copied(page: Page, editor: Locator) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("radio", name="Python").check()
    view = page.locator(".wb-recipes")
    expect(view.get_by_label("The same in Python")).to_contain_text("wb.load_model('resnet20')")
    view.get_by_role("button", name="Copy").click()
    expect(view.get_by_role("button", name="Copy")).to_have_text("Copied")
    compile(page.evaluate("navigator.clipboard.readText()"), "page.py", "exec")
    page.get_by_role("radio", name="YAML").check()


def test_the_address_follows_the_recipe_without_spamming_the_history(page: Page) -> None:
    steps = page.evaluate("history.length")
    for bits in ("8", "6", "4"):
        page.get_by_role("slider", name="Bit-width", exact=True).fill(bits)
    assert address(page, '"bits":4') == Recipe.parse("- quantize: {bits: 4}")
    page.get_by_role("button", name="Reset").click()
    page.wait_for_function("location.hash === ''", timeout=20_000)
    assert page.evaluate("history.length") == steps


def test_a_link_opens_model_recipe_and_locks_and_a_reload_brings_them_back(browser: Browser, app: Served) -> None:
    fragment = write_link("lenet5", "fashion_mnist", Recipe.parse(SMALL).to_data(), ("fc1",))
    with open_link(browser, app, fragment) as page, open_link(browser, app, fragment) as twin:
        for each in (page, twin):
            wait_settled(each, SMALL)
            assert each.get_by_label("Model", exact=True).input_value() == "lenet5"
        page.get_by_role("slider", name="Bit-width", exact=True).fill("3")
        address(page, '"bits":3')
        page.reload()  # while it may still be measured
        wait_settled(page, SMALL.replace("5", "3"))
        assert page.get_by_label("Model", exact=True).input_value() == "lenet5"
        assert read_link(page.evaluate("location.hash")).locked == ("fc1",)
        wait_settled(twin, SMALL)
        page.get_by_role("button", name="Copy a link").click()
        copied = page.evaluate("navigator.clipboard.readText()")
        assert Recipe.parse(read_link(copied.partition("#")[2]).recipe) == Recipe.parse(SMALL.replace("5", "3"))
        page.evaluate("hash => { location.hash = hash }", fragment)  # pasted into the open tab
        wait_settled(page, SMALL)


def test_a_bad_link_is_one_sentence_its_recipe_is_kept_and_the_page_works(browser: Browser, app: Served) -> None:
    steps = Recipe.parse(SMALL).to_data()
    with open_link(browser, app, write_link("file:mine.onnx", "fashion_mnist", steps)) as page:
        said = page.locator(".wb-trouble")
        expect(said).to_contain_text("opened from a file")
        editor = page.get_by_label("Recipe in YAML")
        assert Recipe.parse(editor.input_value()) == Recipe.parse(SMALL)
        page.locator(".wb-recipes").get_by_role("button", name="Apply").click()
        wait_settled(page, SMALL)
        for fragment, words in (
            (write_link("resnet20", "fashion_mnist", steps).replace("v=1", "v=9"), "newer version"),
            (write_link("resnet20", "fashion_mnist", steps)[:-12], "damaged"),
        ):
            page.evaluate("hash => { location.hash = hash }", fragment)
            expect(said).to_contain_text(words)
        page.evaluate("hash => { location.hash = hash }", write_link("", "", [{"distil": {"teacher": "x"}}]))
        expect(page.locator(".wb-recipes .wb-problem")).to_contain_text("no technique 'distil'")
        expect(editor).to_have_value("- distil: {teacher: x}\n")
        page.get_by_role("slider", name="Bit-width", exact=True).fill("4")
        wait_settled(page, "- prune: {ratio: 0.4}\n- quantize: {bits: 4}")
