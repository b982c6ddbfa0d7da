"""The Sensitivity view in the served app: a sweep that comes and goes, walked by mouse and keyboard."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.conftest import open_page
from tests.browser.launch import Served
from tests.browser.reading import wait_settled
from widgets.sensitivity.view import SensitivityView
from workbench.editing import with_layer
from workbench.recipe import Recipe

#: The canvas' colour at a place given as shares of its size.
PIXEL = """(canvas, [across, down]) => {
  const [x, y] = [Math.floor(across * canvas.width), Math.floor(down * canvas.height)];
  return [...canvas.getContext("2d").getImageData(x, y, 1, 1).data];
}"""


@pytest.fixture
def view(page: Page) -> Iterator[Locator]:
    """Return the view with the pruning sweep's first map; afterwards nothing runs."""
    page.get_by_role("tab", name="Sensitivity").click()
    view = page.locator(".wb-panel-sensitivity")
    view.get_by_text("Map", exact=True).click()
    view.get_by_text("Pruning ratio", exact=True).click()
    if not view.get_by_role("grid").is_visible():
        view.get_by_role("button", name="Start the sweep").click()
        expect(course(view)).to_contain_text("of 10,000 test images", timeout=60_000)
        wait_known(view)
        view.get_by_role("button", name="Stop", exact=True).click()
    yield view
    stop = view.get_by_role("button", name="Stop", exact=True)
    if stop.is_visible():
        stop.click()
    expect(stop).to_have_count(0)


def course(view: Locator) -> Locator:
    return view.locator(".wb-course-text")


def readout(view: Locator) -> Locator:
    return view.locator(".wb-readout")


def wait_known(view: Locator) -> None:
    """Wait until every cell has a figure."""
    view.page.wait_for_function(
        "words => RegExp(words).test(document.querySelector('.wb-course-text').textContent)",
        arg=r"(^|· )[1-9][\d,]*( to [\d,]+)? of 10,000 test",
        timeout=90_000,
    )


def hover(view: Locator, row: int, column: int) -> None:
    """Point at a cell: the map's first 190 pixels, or a fifth, are names, its first 24 the levels."""
    box = view.locator("canvas").bounding_box()
    assert box is not None
    names = min(190, max(108, box["width"] * 0.2))
    even = (box["height"] - 26) // 22
    high = 15 if even < 12 else min(26, even)  # where rows would be too low, the map scrolls
    x = box["x"] + names + (column + 0.5) * (box["width"] - names - 2) / 9
    view.page.mouse.move(x, box["y"] + 24 + (row + 0.5) * high)


def test_a_sweep_shows_progress_can_be_stopped_and_what_was_found_stays(view: Locator) -> None:
    run = view.get_by_role("button", name="Run again")
    run.click()
    bar = view.get_by_role("progressbar", name="Sensitivity sweep")
    expect(view.get_by_role("button", name="Stop", exact=True)).to_be_visible()
    expect(course(view)).to_contain_text("left", timeout=60_000)
    expect(bar).to_have_attribute("aria-valuetext", course(view).inner_text())
    view.get_by_role("button", name="Stop", exact=True).click()
    expect(course(view)).to_contain_text("Stopped, and valid as it stands", timeout=5_000)
    expect(run).to_be_focused()
    assert view.locator("canvas").evaluate(PIXEL, [0.99, 0.14])[3] == 255  # conv1 at 90 % is drawn


def test_nothing_moves_while_a_sweep_comes_in(view: Locator) -> None:
    parts = ".wb-sensitivity, .wb-sensitivity :is(button, select, canvas, p, .wb-legend)"
    measure = (
        f"() => [...document.querySelectorAll('{parts}')].map(part => part.getBoundingClientRect().toJSON())"
        ".filter(box => box.width > 1)"
    )
    before = view.page.evaluate(measure)
    view.get_by_role("button", name="Run again").click()
    expect(course(view)).to_contain_text("left", timeout=60_000)
    assert view.page.evaluate(measure) == before


def test_the_mouse_reads_a_cell_and_a_click_sets_the_layer(page: Page, view: Locator) -> None:
    hover(view, 1, 7)
    expect(readout(view)).to_contain_text("stage1.0.conv1 at 80 %")
    expect(readout(view)).to_contain_text("95 % interval")
    page.mouse.down()
    page.mouse.up()
    recipe = with_layer(Recipe(), "prune", ["stage1.0.conv1"], 0.8)
    wait_settled(page, recipe)
    expect(page.get_by_label("Layer", exact=True).first).to_have_value("stage1.0.conv1")


def test_the_keys_walk_the_map_and_enter_sets_the_layer(page: Page, view: Locator) -> None:
    grid = view.get_by_role("grid")
    grid.focus()
    grid.press("Control+End")
    expect(readout(view)).to_contain_text("fc at 90 %")
    grid.press("ArrowLeft")
    grid.press("ArrowUp")
    expect(readout(view)).to_contain_text("stage3.2.conv2 at 80 %")
    active = page.locator(f"[id='{grid.get_attribute('aria-activedescendant')}']")
    expect(active).to_have_text(readout(view).inner_text())
    expect(active).to_have_attribute("aria-colindex", "8")
    expect(active.locator("xpath=..")).to_have_attribute("aria-rowindex", "21")
    grid.press("Enter")
    wait_settled(page, with_layer(Recipe(), "prune", ["stage3.2.conv2"], 0.8))


def test_a_locked_layer_keeps_its_setting_and_that_is_said(page: Page, view: Locator) -> None:
    page.get_by_role("tab", name="Layers").click()
    page.get_by_label("Lock conv1", exact=True).click()
    page.get_by_role("tab", name="Sensitivity").click()
    grid = view.get_by_role("grid")
    grid.focus()
    grid.press("Control+Home")
    expect(readout(view)).to_contain_text("conv1 at 10 %")
    grid.press("Enter")
    expect(view.get_by_role("alert")).to_contain_text("conv1 is locked, so it keeps its setting.")
    page.get_by_role("tab", name="Layers").click()
    page.locator(".wb-panel-layers .wb-lock[aria-pressed=true]").click()
    page.get_by_role("tab", name="Sensitivity").click()
    grid.focus()
    grid.press("Enter")
    expect(view.get_by_role("alert")).to_have_count(0)
    page.get_by_role("tab", name="Layers").click()
    expect(page.get_by_label("Pruning ratio of conv1 in per cent", exact=True)).to_have_value("10 %")


@pytest.mark.slow
def test_a_sweep_goes_on_behind_a_slider_and_lets_it_go_first(page: Page, view: Locator) -> None:
    view.get_by_role("button", name="Run again").click()
    expect(course(view)).to_contain_text("left", timeout=60_000)
    page.get_by_role("slider", name="Pruning ratio", exact=True).fill("40")
    wait_settled(page, "- prune: {ratio: 0.4}")
    expect(view.get_by_role("button", name="Stop", exact=True)).to_be_visible()
    seen = course(view).inner_text()
    page.wait_for_function(
        "seen => document.querySelector('.wb-course-text').textContent !== seen", arg=seen, timeout=30_000
    )


def test_curves_show_the_same_sweep_and_a_click_selects_a_layer(page: Page, view: Locator) -> None:
    view.get_by_text("Curves", exact=True).click()
    canvas = view.locator("canvas")
    grid = view.get_by_role("grid")
    grid.focus()
    grid.press("Control+Home")
    grid.press("End")
    expect(readout(view)).to_contain_text("conv1 at 90 %")
    box = canvas.bounding_box()
    assert box is not None
    # conv1 at 90 % loses most by far: it is the lowest line's right end
    page.mouse.move(box["x"] + box["width"] - 166, box["y"] + box["height"] - 42)
    expect(readout(view)).to_contain_text("conv1 at 90 %")
    page.mouse.down()
    page.mouse.up()
    expect(page.get_by_label("Layer", exact=True).first).to_have_value("conv1")


def test_each_technique_keeps_its_own_sweep(view: Locator) -> None:
    before = course(view).inner_text()
    view.get_by_text("Bit-width", exact=True).click()
    expect(view.get_by_role("button", name="Start the sweep")).to_be_visible()
    view.get_by_text("Pruning ratio", exact=True).click()
    expect(view.get_by_role("grid")).to_be_visible()
    assert course(view).inner_text().split(" of ")[0] in before


@pytest.mark.parametrize("light", ["true", "false"])
@pytest.mark.parametrize("form", ["Map", "Curves"])
def test_axe_finds_nothing_serious(page: Page, view: Locator, form: str, light: str) -> None:
    view.get_by_text(form, exact=True).click()
    view.get_by_role("grid").focus()
    was = page.evaluate("document.body.dataset.jpThemeLight")
    page.evaluate("light => { document.body.dataset.jpThemeLight = light }", light)
    found = Axe().run(page, context=".wb-panel-sensitivity").response["violations"]
    page.evaluate("light => { document.body.dataset.jpThemeLight = light }", was)
    serious = [problem for problem in found if problem["impact"] in ("serious", "critical")]
    assert not serious, json.dumps(serious, indent=1)[:3000]


def test_on_a_phone_nothing_overflows(browser: Browser, app: Served) -> None:
    with open_page(browser, app, viewport={"width": 390, "height": 844}, has_touch=True) as page:
        page.get_by_role("tab", name="Sensitivity").click()
        view = page.locator(".wb-panel-sensitivity")
        again = view.get_by_role("button", name="Run again")  # where the history keeps a sweep of another test
        rest = view.get_by_role("button", name="Go on", exact=True)  # or one that was cut off
        view.get_by_role("button", name="Start", exact=True).or_(again).or_(rest).click()
        expect(view.get_by_role("grid")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        for part in view.locator("button, select, label, canvas, .wb-ramp").all():
            box = part.bounding_box()
            assert box is None or (box["x"] >= 0 and box["x"] + box["width"] <= 390)


# Many layers, without a kernel

BARE = """<!doctype html><html lang="en"><title>Sensitivity</title><style>%s</style>
<body data-jp-theme-light="true"><main style="height: 420px; width: 1020px"></main></body>"""
START = """async ([source, state, arrays]) => {
  const traits = { ...state };
  for (const [name, bytes] of Object.entries(arrays)) traits[name] = new DataView(Uint8Array.from(bytes).buffer);
  window.sent = [];
  const model = {
    get: (name) => traits[name], set: (name, value) => { traits[name] = value; }, save_changes() {},
    send: (message) => window.sent.push(message), on() {}, off() {},
  };
  const view = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
  const began = performance.now();
  view.default.render({ model, el: document.querySelector("main") });
  await new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)));
  return performance.now() - began;
}"""
SCROLL = """async () => {
  const grid = document.querySelector("[role=grid]");
  const spent = [];
  for (let step = 1; step <= 30; step += 1) {
    const began = performance.now();
    grid.scrollTop = 140 * step;
    await new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)));
    spent.push(performance.now() - began);
  }
  return spent.sort((a, b) => a - b)[15];
}"""


def state_of(rows: int) -> tuple[dict[str, Any], dict[str, list[int]], str, str]:
    """Return the view's traits for so many layers, each losing as many points as its level's number."""
    view = SensitivityView()
    lost = np.tile(np.arange(9, dtype=np.float32) / 100, (rows, 1))
    view.layers = [f"blocks.{place}.conv" for place in range(rows)]
    view.value = view.low = view.high = (np.float32(0.9) - lost).astype(np.float32).tobytes()
    view.n = np.full((rows, 9), 1000, np.uint32).tobytes()
    levels = [level / 10 for level in range(1, 10)]
    view.about = {
        "baseline": 0.9, "split": "test", "total": 1000, "fewest": 1000, "most": 1000, "levels": levels, "settings": {},
    }  # fmt: skip
    state = {name: value for name, value in view.get_state().items() if not name.startswith("_")}
    arrays = {name: list(bytes(value)) for name, value in state.items() if isinstance(value, bytes | memoryview)}
    rest = {name: value for name, value in state.items() if name not in arrays}
    return rest, arrays, str(SensitivityView._esm), str(SensitivityView._css)


def test_three_hundred_layers_scroll_and_are_walked_without_a_wait(browser: Browser) -> None:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    state, arrays, source, css = state_of(300)
    page.set_content(BARE % css)
    built = page.evaluate(START, [source, state, arrays])
    scrolled = page.evaluate(SCROLL)
    grid = page.get_by_role("grid")
    expect(grid).to_have_attribute("aria-rowcount", "300")
    assert page.locator(".wb-sensitivity *").count() < 110  # only the cell in hand is in the page
    grid.focus()
    grid.press("Control+End")
    expect(page.locator(".wb-readout")).to_contain_text("blocks.299.conv at 90 %: 82.00 %, 8.00 points lost, exact")
    grid.press("Enter")
    assert page.evaluate("window.sent") == [{"do": "set", "layer": 299, "level": 0.9}]
    assert page.locator("canvas").evaluate(PIXEL, [0.99, 0.98])[3] == 255  # the last row came into sight
    print(f"300 layers: drawn in {built:.0f} ms, scrolled in {scrolled:.0f} ms (median)")
    assert built < 1_000
    assert scrolled < 100  # a frame is 16.7, and other tests share the processor
    context.close()
