"""The Workbench in VS Code: drawn by the widget manager and through the script loading of its Jupyter extension.

VS Code itself is not started: its Jupyter extension comes from a marketplace, but what draws widgets in it is a
package, ``npm install --prefix tests/browser/vscode`` away. The page is a notebook output as the extension makes
one, with VS Code's colours as variables and its theme as the body's class.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.launch import Served, serve_kernels
from tests.browser.reading import wait_ready

HERE = Path(__file__).parent / "vscode"
MODULES = HERE / "node_modules"
EXTENSIONS = Path(sys.prefix) / "share" / "jupyter" / "nbextensions"
CODE = 'from widgets import Workbench\nWorkbench("lenet300", "fashion_mnist")'
#: Of the themes "Dark Modern" and "Light Modern".
COLOURS = {
    "vscode-dark": {"editor-background": "#1f1f1f", "editor-foreground": "#cccccc"},
    "vscode-light": {"editor-background": "#ffffff", "editor-foreground": "#3b3b3b"},
}

pytestmark = pytest.mark.skipif(
    not MODULES.exists(), reason="VS Code's widget manager is missing: npm install --prefix tests/browser/vscode"
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("vscode") / "page.js"
    command = [MODULES / ".bin" / "esbuild", HERE / "page.js", "--bundle", "--define:global=window"]
    subprocess.run([*command, f"--outfile={made}", "--log-level=error"], check=True)
    return made


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve_kernels(tmp_path_factory.mktemp("vscode-home")) as served:
        yield served


@pytest.fixture(scope="module", params=COLOURS)
def page(request: pytest.FixtureRequest, browser: Browser, kernels: Served, bundle: Path) -> Iterator[Page]:
    theme = request.param
    context = browser.new_context(viewport={"width": 1200, "height": 900}, bypass_csp=True)
    page = context.new_page()
    page.problems = []  # type: ignore[attr-defined]
    page.on("pageerror", lambda error: page.problems.append(str(error)))  # type: ignore[attr-defined]
    page.route(
        "**/nbextensions/**",
        lambda route: route.fulfill(path=EXTENSIONS / route.request.url.split("/nbextensions/")[1]),
    )
    page.goto(f"{kernels.url}/api")
    colours = ";".join(f"--vscode-{name}:{value}" for name, value in COLOURS[theme].items())
    page.set_content(
        f'<html style="{colours}"><body class="{theme}" data-vscode-theme-kind="{theme}">'
        '<div class="cell-output-ipywidget-background"><div class="output"></div></div></body></html>'
    )
    page.add_script_tag(path=MODULES / "requirejs" / "require.js")
    page.add_script_tag(path=bundle)
    page.evaluate("code => runCell(code)", CODE)
    wait_ready(page)
    yield page
    page.evaluate("endKernel()")
    context.close()


def test_the_workbench_is_drawn_and_a_slider_moves_its_figures(page: Page) -> None:
    size = page.locator("[data-metric=size]")
    before = float(size.get_attribute("data-value") or "nan")
    page.get_by_role("slider", name="Pruning ratio").first.press("PageUp")
    page.wait_for_function("before => +document.querySelector('[data-metric=size]').dataset.value < before", arg=before)
    assert page.problems == []  # type: ignore[attr-defined]


def test_every_tab_opens(page: Page) -> None:
    for tab in page.get_by_role("tab").all():
        tab.click()
        expect(tab).to_have_attribute("aria-selected", "true")
    page.get_by_role("tab").first.click()
    assert page.problems == []  # type: ignore[attr-defined]


def test_the_colours_are_those_of_the_editor(page: Page) -> None:
    theme = str(page.locator("body").get_attribute("class"))
    for name, place in (("background-color", "editor-background"), ("color", "editor-foreground")):
        shown = page.locator(".wb-card").first.evaluate(f"card => getComputedStyle(card).getPropertyValue('{name}')")
        red, green, blue = bytes.fromhex(COLOURS[theme][place][1:])
        assert shown == f"rgb({red}, {green}, {blue})"
