"""The trade-off in the page: settings appear, are told, and can be gone back to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import open_page
from tests.browser.launch import ROOT, Served, serve_app
from tests.browser.reading import wait_settled
from workbench.measure.pareto import pareto_front

PRUNED, BOTH = "- prune: {ratio: 0.6}", "- prune: {ratio: 0.6}\n- quantize: {bits: 4}"
COUNTED = re.compile(r"(\d+) settings?, (\d+) on the Pareto front")
#: A place on the plot where a click would go back to a setting.
FIND = """canvas => {
  const box = canvas.getBoundingClientRect();
  for (let x = 64; x < box.width - 10; x += 4) {
    for (let y = 10; y < box.height - 42; y += 4) {
      const at = { clientX: box.left + x, clientY: box.top + y, bubbles: true, pointerType: "mouse" };
      canvas.dispatchEvent(new PointerEvent("pointermove", at));
      if (canvas.style.cursor === "pointer") return [x, y];
    }
  }
  return null;
}"""


@pytest.fixture(scope="module")
def app(chromium: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve the app with a history of its own: what the other files tried may hide the dense model."""
    with serve_app(tmp_path_factory.mktemp("tradeoff"), "--pool", "0") as served:
        yield served


@pytest.fixture(scope="module")
def shared(browser: Browser, app: Served) -> Iterator[Page]:
    with open_page(browser, app) as page:
        yield page


def try_two_settings(page: Page) -> None:
    page.get_by_role("tab", name="Trade-off").click()
    page.get_by_role("slider", name="Pruning ratio", exact=True).fill("60")
    wait_settled(page, PRUNED)
    page.get_by_role("slider", name="Bit-width", exact=True).fill("4")
    wait_settled(page, BOTH)
    expect(page.locator(".wb-tradeoff .wb-lines b")).to_have_text("Now: 60 % pruned · 4 bit")


def counted(page: Page) -> tuple[int, int]:
    label = page.locator(".wb-tradeoff [role=application]").get_attribute("aria-label") or ""
    found = COUNTED.search(label)
    assert found, label
    return int(found[1]), int(found[2])


def test_tried_settings_appear_without_moving_the_page(page: Page) -> None:
    page.get_by_role("tab", name="Trade-off").click()
    before = page.locator(".wb-tradeoff").bounding_box()
    try_two_settings(page)
    settings, front = counted(page)
    assert settings >= 3
    assert 2 <= front <= settings
    assert page.locator(".wb-tradeoff tbody tr").count() == front
    assert page.locator(".wb-tradeoff").bounding_box() == before


def test_arrow_keys_walk_the_settings_and_enter_goes_back(page: Page) -> None:
    try_two_settings(page)
    words = page.locator(".wb-tradeoff .wb-lines b")
    page.locator(".wb-tradeoff [role=application]").focus()
    page.keyboard.press("Home")
    told = [words.inner_text()]
    for _ in range(counted(page)[0] - 1):
        page.keyboard.press("ArrowRight")
        page.wait_for_function(
            "told => document.querySelector('.wb-tradeoff .wb-lines b').textContent !== told", arg=told[-1]
        )
        told.append(words.inner_text())
    assert len(set(told)) == len(told)
    while words.inner_text() != "60 % pruned":
        page.keyboard.press("ArrowLeft")
        page.wait_for_function("() => new Promise(done => requestAnimationFrame(() => done(true)))")
    page.keyboard.press("Enter")
    wait_settled(page, PRUNED)
    page.keyboard.press("Control+Shift+Z")
    wait_settled(page, BOTH)
    page.keyboard.press("Control+z")
    wait_settled(page, PRUNED)


def test_a_click_on_a_setting_goes_back_to_it(page: Page) -> None:
    try_two_settings(page)
    canvas = page.locator(".wb-tradeoff [role=application]")
    place = canvas.evaluate(FIND)
    assert place, "no setting lies on the plot"
    canvas.hover(position={"x": place[0], "y": place[1]})
    expect(page.get_by_role("button", name="Go back to it")).to_be_enabled()
    words = page.locator(".wb-tradeoff .wb-lines b").inner_text()
    assert not words.startswith("Now")
    canvas.click(position={"x": place[0], "y": place[1]})
    page.mouse.move(5, 5)
    expect(page.locator(".wb-tradeoff .wb-lines b")).to_have_text(f"Now: {words}")


def test_a_row_of_the_front_goes_back_too(page: Page) -> None:
    try_two_settings(page)
    page.locator(".wb-tradeoff").get_by_role("button", name="dense", exact=True).click()
    wait_settled(page, "[]")


def test_the_same_figure_is_never_on_both_axes(page: Page) -> None:
    page.get_by_role("tab", name="Trade-off").click()
    across, up = page.get_by_label("Across", exact=True), page.get_by_label("Up", exact=True)
    across.select_option("latency")
    up.select_option("latency")
    expect(across).to_have_value("accuracy")
    expect(page.locator(".wb-tradeoff thead th").nth(1)).to_have_text("Latency")
    up.select_option("accuracy")
    across.select_option("size")
    expect(up).to_have_value("accuracy")


@pytest.mark.slow
def test_on_touch_the_first_tap_tells_and_the_button_goes(browser: Browser, app: Served) -> None:
    with open_page(browser, app, viewport={"width": 390, "height": 844}, has_touch=True) as page:
        try_two_settings(page)
        canvas = page.locator(".wb-tradeoff [role=application]")
        canvas.scroll_into_view_if_needed()
        place = canvas.evaluate(FIND)
        assert place
        canvas.evaluate("canvas => canvas.dispatchEvent(new PointerEvent('pointerleave', {pointerType: 'mouse'}))")
        canvas.tap(position={"x": place[0], "y": place[1]})
        go = page.get_by_role("button", name="Go back to it")
        expect(go).to_be_enabled()
        words = page.locator(".wb-tradeoff .wb-lines b").inner_text()
        assert not words.startswith("Now")
        go.tap()
        expect(page.locator(".wb-tradeoff .wb-lines b")).to_have_text(f"Now: {words}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_front_in_the_browser_is_the_front_in_python(page: Page) -> None:
    rng = np.random.default_rng(3)
    x, y = rng.integers(0, 40, 200) / 7, rng.integers(0, 40, 200) / 9
    y[::17] = np.nan
    source = "\n".join((ROOT / "widgets" / name).read_text() for name in ("base/base.js", "tradeoff/points.js"))
    found = """([source, xs, ys, higher]) => {
      const front = new Function(`${source}; return paretoFront;`)();
      const points = xs.map((x, place) => ({ place, x, y: ys[place] ?? NaN }));
      const metric = (name, up) => ({ higher: up, value: (p) => p[name] });
      return front(points, metric("x", higher[0]), metric("y", higher[1])).map((p) => p.place);
    }"""
    ys = [None if np.isnan(value) else float(value) for value in y]
    for higher in ((False, True), (True, False), (False, False), (True, True)):
        wanted = pareto_front(x, y, higher=higher).tolist()
        assert page.evaluate(found, [source, x.tolist(), ys, list(higher)]) == wanted
        assert len(wanted) > 1


def test_settings_are_starred_compared_deleted_and_brought_back(page: Page) -> None:
    try_two_settings(page)
    page.get_by_label("Settings listed").select_option("latest")
    rows = page.locator(".wb-tradeoff .wb-best tbody tr")
    before = rows.count()
    assert before >= 3
    page.get_by_role("checkbox", name="Choose 60 % pruned", exact=True).check()
    page.get_by_role("checkbox", name="Choose 60 % pruned · 4 bit", exact=True).check()
    page.get_by_role("button", name="Compare 2").click()
    table = page.locator(".wb-tradeoff .wb-compare table")
    expect(table).to_contain_text("quantize added: bits 4")
    expect(table).to_contain_text("stage1.0.conv1")
    page.locator(".wb-compare").get_by_role("button", name="Close").click()
    expect(table).to_be_hidden()
    page.get_by_role("button", name="Compare 2").click()
    expect(table).to_contain_text("quantize added: bits 4")
    page.locator(".wb-compare").get_by_role("button", name="Close").click()
    star = page.get_by_role("button", name="Star 60 % pruned", exact=True)
    star.click()
    expect(star).to_have_attribute("aria-pressed", "true")
    page.get_by_role("checkbox", name="Choose 60 % pruned · 4 bit", exact=True).uncheck()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(rows).to_have_count(before - 1)
    page.get_by_role("button", name="Undo delete (1)").click()
    expect(rows).to_have_count(before)
    star.click()
    page.get_by_label("Settings listed").select_option("front")


def test_the_filter_narrows_plot_and_list_and_files_are_saved(page: Page) -> None:
    try_two_settings(page)
    page.get_by_label("Filter settings by name or recipe").fill("4 bit")
    settings, _ = counted(page)
    assert settings == 1
    with page.expect_download() as table:
        page.get_by_role("button", name="CSV").click()
    lines = table.value.path().read_text().splitlines()
    assert len(lines) == 2
    assert "quantize" in lines[1]
    page.get_by_label("Filter settings by name or recipe").fill("")
    with page.expect_download() as plot:
        page.get_by_label("Save the plot").select_option("pdf")
    assert plot.value.path().read_bytes().startswith(b"%PDF")
