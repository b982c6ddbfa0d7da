"""The Workbench in JupyterLab: while cells run, twice in a notebook, and after a reload."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
import psutil
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.lab import open_notebook, run_cell
from tests.browser.launch import Served, serve_lab
from workbench.recipe import Recipe

BUSY = """
import time
from pathlib import Path
while not Path("stop").exists():
    time.sleep(0.02)
"""
CELLS = ('from widgets import Workbench\nWorkbench("lenet300", "fashion_mnist")', BUSY, 'Workbench("lenet5")')


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lab")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell.strip()) for cell in CELLS])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / "work.ipynb")
    return folder


@pytest.fixture(scope="module")
def lab(app: Served, folder: Path) -> Iterator[Served]:
    """Serve the notebook, with the history of ``app``, which has the baselines' figures."""
    with serve_lab(Path(psutil.Process(app.pid).environ()["WORKBENCH_HOME"]), folder / "work.ipynb") as served:
        yield served


@pytest.fixture(scope="module")
def page(browser: Browser, lab: Served) -> Iterator[Page]:
    """Open the notebook with the first Workbench drawn. High enough that no cell is out of sight."""
    context = browser.new_context(viewport={"width": 1440, "height": 2600})
    page = context.new_page()
    page.asked = []  # type: ignore[attr-defined]
    page.on("request", lambda request: page.asked.append(request.url))  # type: ignore[attr-defined]
    open_notebook(page, lab.url)
    run_cell(page, 0)
    wait_shown(workbench(page, 0), Recipe())
    yield page
    context.close()


def workbench(page: Page, place: int) -> Locator:
    return page.locator(".jp-CodeCell").nth(place).locator(".wb-host")


def ratio(part: Locator) -> Locator:
    return part.get_by_role("slider", name="Pruning ratio", exact=True)


def wait_shown(part: Locator, recipe: Recipe | str, metric: str = "size", seconds: float = 60) -> None:
    wanted = (Recipe.parse(recipe) if isinstance(recipe, str) else recipe).hash
    expect(part.locator(f"[data-metric={metric}]")).to_have_attribute("data-recipe", wanted, timeout=seconds * 1000)


def test_a_drag_gives_size_and_accuracy(page: Page) -> None:
    slider = ratio(workbench(page, 0))
    box = slider.bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 8, y)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], y, steps=8)
    page.mouse.up()
    recipe = f"- prune: {{ratio: {int(slider.input_value()) / 100}}}"
    for metric in ("size", "latency", "accuracy"):
        wait_shown(workbench(page, 0), recipe, metric)


def test_a_move_does_not_make_the_kernel_busy(page: Page) -> None:
    page.evaluate("""() => {
      const indicator = document.querySelector(".jp-Notebook-ExecutionIndicator");
      window.states = [];
      window.watching = new MutationObserver(() => window.states.push(indicator.dataset.status));
      window.watching.observe(indicator, { attributes: true, attributeFilter: ["data-status"] });
    }""")
    ratio(workbench(page, 0)).fill("43")
    wait_shown(workbench(page, 0), "- prune: {ratio: 0.43}", "accuracy")
    assert page.evaluate("window.watching.disconnect(), window.states") == []


def test_sliders_answer_while_a_cell_runs(page: Page, folder: Path) -> None:
    run_cell(page, 1)
    expect(page.locator(".jp-Notebook-ExecutionIndicator")).to_have_attribute("data-status", "busy")
    ratio(workbench(page, 0)).fill("41")
    wait_shown(workbench(page, 0), "- prune: {ratio: 0.41}")
    wait_shown(workbench(page, 0), "- prune: {ratio: 0.41}", "accuracy")
    expect(page.locator(".jp-Notebook-ExecutionIndicator")).to_have_attribute("data-status", "busy")
    (folder / "stop").touch()
    expect(page.locator(".jp-Notebook-ExecutionIndicator")).to_have_attribute("data-status", "idle", timeout=10_000)


def test_two_workbenches_in_a_notebook_know_nothing_of_each_other(page: Page) -> None:
    ratio(workbench(page, 0)).fill("52")
    wait_shown(workbench(page, 0), "- prune: {ratio: 0.52}")
    run_cell(page, 2)
    wait_shown(workbench(page, 2), Recipe())
    ratio(workbench(page, 2)).fill("33")
    wait_shown(workbench(page, 2), "- prune: {ratio: 0.33}")
    wait_shown(workbench(page, 0), "- prune: {ratio: 0.52}")
    sizes = [workbench(page, place).locator("[data-metric=size]").get_attribute("data-value") for place in (0, 2)]
    assert sizes[0] != sizes[1]


def test_after_a_reload_the_page_finds_its_widgets_again(page: Page) -> None:
    ratio(workbench(page, 0)).fill("64")
    wait_shown(workbench(page, 0), "- prune: {ratio: 0.64}")
    page.keyboard.press("Control+s")
    page.wait_for_selector(".jp-mod-dirty", state="detached")
    page.reload()
    wait_shown(workbench(page, 0), "- prune: {ratio: 0.64}")
    expect(ratio(workbench(page, 0))).to_have_value("64")
    ratio(workbench(page, 0)).fill("25")
    wait_shown(workbench(page, 0), "- prune: {ratio: 0.25}")


def test_the_notebook_asks_for_nothing_beyond_its_own_server(page: Page, lab: Served) -> None:
    asked: list[str] = page.asked  # type: ignore[attr-defined]
    hosts = {urlsplit(url).netloc for url in asked if not url.startswith(("data:", "blob:"))}
    assert hosts == {urlsplit(lab.url).netloc}
