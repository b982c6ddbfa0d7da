"""A notebook saved in JupyterLab shows the Workbench's last state when it is opened without its kernel."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

from tests.browser.lab import open_notebook, run_cell
from tests.browser.launch import serve_lab
from tests.browser.reading import wait_ready, wait_settled

SHOW = "import workbench as wb\nfrom widgets import Workbench\nWorkbench(wb.Session('lenet300', 'fashion_mnist'))"
PICTURE = ".jp-OutputArea-child img"
#: Counts in ``window.shown`` the frames in which the picture could be seen beside the live view.
WATCH = """() => {
  window.shown = 0;
  const look = () => {
    const picture = document.querySelector(".jp-OutputArea-child img");
    if (document.querySelector(".jp-OutputArea .wb") && picture?.checkVisibility()) window.shown += 1;
    requestAnimationFrame(look);
  };
  look();
}"""


@dataclass(frozen=True)
class Saved:
    """The notebook as saved before and after a slider moved, and after a reload and another move.

    ``frames`` tells how often its picture could be seen before the reload.
    """

    path: Path
    home: Path
    before: Any
    after: Any
    frames: int
    reloaded: Any


@pytest.fixture(scope="module")
def saved(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    home = tmp_path_factory.mktemp("lab")
    path = home / "notebooks" / "static.ipynb"
    path.parent.mkdir()
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [nbformat.v4.new_code_cell(SHOW), nbformat.v4.new_code_cell("2 * 21")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    with serve_lab(home, path) as lab:
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        open_notebook(page, lab.url)
        page.evaluate(WATCH)
        for place in range(len(cells)):
            run_cell(page, place)
        wait_ready(page)
        page.wait_for_selector(PICTURE, state="attached", timeout=60_000)
        before = save(page, path)
        drawn = page.locator(PICTURE).get_attribute("src")
        move(page, 70, drawn)
        after = save(page, path)
        frames = page.evaluate("window.shown")
        page.reload()
        page.wait_for_selector("[data-metric=size]", timeout=90_000)
        move(page, 30, page.locator(PICTURE).get_attribute("src"))
        reloaded = save(page, path)
        page.close()
    nbformat.write(after, path)
    return Saved(path, home, before, after, frames, reloaded)


@pytest.fixture(scope="module")
def reopened(browser: Browser, saved: Saved) -> Iterator[Page]:
    """The saved notebook in a JupyterLab that has just been started: its widgets are gone with their kernel."""
    with serve_lab(saved.home, saved.path) as lab:
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        page.goto(f"{lab.url}?reset")
        page.wait_for_selector("text=Error displaying widget", state="attached", timeout=90_000)
        yield page
        page.close()


def move(page: Page, ratio: int, drawn: str | None) -> None:
    """Move the slider and wait until the picture is another one than ``drawn``."""
    page.get_by_role("slider", name="Pruning ratio", exact=True).fill(str(ratio))
    wait_settled(page, f"- prune: {{ratio: {ratio / 100}}}")
    page.wait_for_function(f"drawn => document.querySelector('{PICTURE}').src !== drawn", arg=drawn, timeout=60_000)


def save(page: Page, path: Path) -> Any:
    """Save with the keys and return what the file holds then."""
    page.locator(".jp-InputPrompt").first.click()
    page.keyboard.press("Control+s")
    page.wait_for_selector(".jp-mod-dirty", state="detached", timeout=30_000)
    return nbformat.read(path, as_version=4)


def pictures(notebook: Any) -> list[bytes]:
    outputs = [output.get("data", {}) for output in notebook.cells[0].outputs]
    return [base64.b64decode(data["image/png"]) for data in outputs if "image/png" in data]


def test_the_saved_file_holds_one_picture_of_the_setting_shown_last(saved: Saved) -> None:
    settings = {ratio: f'[{{"prune":{{"ratio":{ratio}}}}}]' for ratio in (0.7, 0.3)}
    for notebook, recipe in ((saved.before, "[]"), (saved.after, settings[0.7]), (saved.reloaded, settings[0.3])):
        (picture,) = pictures(notebook)
        image = Image.open(io.BytesIO(picture))
        assert image.width > 900
        assert image.info["Description"].replace(" ", "").endswith(recipe)
    assert "application/vnd.jupyter.widget-view+json" in saved.after.cells[0].outputs[0].data
    assert not [output for output in saved.after.cells[1].outputs if "image/png" in output.data]


def test_beside_the_live_view_the_picture_is_never_seen(saved: Saved) -> None:
    assert saved.frames == 0


def test_opened_without_its_kernel_the_notebook_shows_the_picture_and_no_error(saved: Saved, reopened: Page) -> None:
    picture = reopened.locator(PICTURE)
    assert picture.is_visible()
    box = picture.bounding_box()
    assert box is not None
    assert box["width"] > 500
    (png,) = pictures(saved.after)
    assert (picture.get_attribute("src") or "").endswith(base64.b64encode(png).decode())
    assert not reopened.get_by_text("Error displaying widget").is_visible()


def test_the_served_app_makes_no_picture(page: Page) -> None:
    assert page.locator(".wb-picture-style").count() == 0
    assert page.locator(".jp-OutputArea-output").count() == page.locator(".jp-OutputArea-output:has(.wb)").count() == 1
