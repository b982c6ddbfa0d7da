"""The served app, used by a hand and read by its contract."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from urllib.parse import urlparse

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.conftest import open_page
from tests.browser.kernel import kernel_id, kernel_process
from tests.browser.launch import Served
from tests.browser.reading import clear_watch, read, wait_settled, watched
from workbench.compression import compress
from workbench.recipe import Recipe


def drag(page: Page, name: str, to: float, steps: int = 8) -> None:
    """Drag a slider's thumb with the mouse to a share ``to`` of its track."""
    box = page.get_by_label(name, exact=True).bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    present = page.get_by_label(name, exact=True).evaluate("s => (s.value - s.min) / (s.max - s.min)")
    inside = box["width"] - 16
    page.mouse.move(box["x"] + 8 + present * inside, y)
    page.mouse.down()
    page.mouse.move(box["x"] + 8 + to * inside, y, steps=steps)
    page.mouse.up()


def switch(page: Page, name: str, on: bool = True) -> None:
    page.get_by_role("switch", name=name).set_checked(on)


def test_page_opens_on_exact_figures_of_the_dense_model(page: Page) -> None:
    accuracy, size, latency = (read(page, metric) for metric in ("accuracy", "size", "latency"))
    assert accuracy.kind == "exact"
    assert accuracy.n == 10_000
    assert accuracy.low == accuracy.value == accuracy.high
    assert 0.85 < accuracy.value < 1
    assert size.kind == "exact"
    assert size.value == int(size.value) > 100_000
    assert latency.low <= latency.value <= latency.high
    assert {accuracy.recipe, size.recipe, latency.recipe} == {Recipe().hash}


def test_dragging_pruning_ratio_gives_size_then_sampled_then_exact_accuracy(page: Page) -> None:
    dense = read(page, "size")
    clear_watch(page)
    drag(page, "Pruning ratio", 0.63)
    ratio = int(page.get_by_label("Pruning ratio", exact=True).input_value())
    assert 55 <= ratio <= 65
    recipe = Recipe.parse(f"- prune: {{ratio: {ratio / 100}}}")
    accuracy = wait_settled(page, recipe)
    assert accuracy.n == 10_000
    assert read(page, "size").value < 0.75 * dense.value
    looks = watched(page, "accuracy", recipe.hash)
    sampled = [look for look in looks if look["kind"] == "sampled"]
    assert sampled
    assert sampled[0]["n"] >= 64
    assert all(look["low"] <= look["value"] <= look["high"] for look in looks)
    assert [look["n"] for look in looks] == sorted(look["n"] for look in looks)
    widths = [look["high"] - look["low"] for look in looks]
    assert widths[-1] == 0 < widths[0]
    assert watched(page, "size", recipe.hash)[0]["at"] < sampled[0]["at"]


@pytest.mark.slow
def test_bit_width_follows_the_keyboard(page: Page) -> None:
    dense = read(page, "size")
    slider = page.get_by_label("Bit-width", exact=True)
    slider.focus()
    sizes = []
    for keys, bits in ((2, 8), (4, 4), (1, 3)):
        for _ in range(keys):
            page.keyboard.press("ArrowLeft")
        wait_settled(page, f"- quantize: {{bits: {bits}}}")
        sizes.append(read(page, "size").value)
    assert slider.get_attribute("aria-valuetext") == "3 bit"
    assert dense.value > 3 * sizes[0] > 3 * sizes[1] > 3 * sizes[2]
    page.keyboard.press("End")
    wait_settled(page, Recipe())


def test_mouse_drags_bit_width_and_keyboard_moves_pruning_ratio(page: Page) -> None:
    drag(page, "Bit-width", 3 / 9)
    page.get_by_label("Pruning ratio", exact=True).focus()
    for _ in range(3):
        page.keyboard.press("PageUp")
    ratio = int(page.get_by_label("Pruning ratio", exact=True).input_value())
    assert ratio > 0
    wait_settled(page, f"- prune: {{ratio: {ratio / 100}}}\n- quantize: {{bits: 4}}")


def test_pruning_channels_really_shrinks_the_model(page: Page) -> None:
    dense = read(page, "size")
    page.get_by_role("radio", name="channels").check(force=True)
    page.get_by_label("Pruning ratio", exact=True).fill("50")
    wait_settled(page, "- prune: {ratio: 0.5, granularity: filter}")
    assert read(page, "size").value < 0.8 * dense.value
    assert "of weights removed" in page.inner_text(".wb-controls")


def test_eight_bit_activations_bring_eight_bit_weights_and_back(page: Page) -> None:
    switch(page, "8-bit activations")
    wait_settled(page, "- quantize: {bits: 8, activations: {bits: 8}}")
    assert page.get_by_label("Bit-width", exact=True).get_attribute("aria-valuetext") == "8 bit"
    switch(page, "8-bit activations", False)
    wait_settled(page, "- quantize: {bits: 8}")


def test_measure_puts_the_measured_latency_beside_the_predicted(page: Page) -> None:
    card = page.locator("[data-metric=latency]")
    assert read(page, "latency").kind in ("predicted", "measured")
    card.get_by_role("button", name="Measure").click()
    page.wait_for_function(
        "document.querySelector('[data-metric=latency]').innerText.match(/measured \\d[\\d.]* ms/)",
        timeout=60_000,
    )
    assert card.get_by_role("button", name="Measure", exact=True).is_enabled()


def test_two_hundred_moves_end_in_the_last_ones_figures_and_nothing_older_follows(page: Page) -> None:
    clear_watch(page)
    page.evaluate(
        """async () => {
          const slider = document.querySelector(".wb-controls input[type=range]");
          for (let move = 1; move <= 200; move += 1) {
            slider.value = 1 + (move * 7) % 90;
            slider.dispatchEvent(new Event("input", { bubbles: true }));
            await new Promise((resolve) => setTimeout(resolve, 50));
          }
        }"""
    )
    order = [Recipe.parse(f"- prune: {{ratio: {(1 + (move * 7) % 90) / 100}}}").hash for move in range(1, 201)]
    wait_settled(page, f"- prune: {{ratio: {(1 + (200 * 7) % 90) / 100}}}")
    for metric in ("accuracy", "size", "latency"):
        seen = [change["recipe"] for change in watched(page, metric)]
        moves = iter([Recipe().hash, *order])
        assert all(any(recipe == move for move in moves) for recipe in _runs(seen)), metric
        assert read(page, metric).recipe == order[-1]
    assert len(_runs([change["recipe"] for change in watched(page, "size")])) > 20


def _runs(recipes: list[object]) -> list[object]:
    """Return the recipes with immediate repeats dropped."""
    return [recipe for place, recipe in enumerate(recipes) if place == 0 or recipe != recipes[place - 1]]


@pytest.mark.slow
def test_nothing_moves_while_the_figures_change(page: Page) -> None:
    measure = """[...document.querySelectorAll('[data-metric], .wb-controls, .wb-weights')]
      .map((part) => part.getBoundingClientRect().toJSON())"""
    before = page.evaluate(measure)
    drag(page, "Pruning ratio", 0.7)
    seen = [page.evaluate(measure)]
    drag(page, "Bit-width", 0.3)
    seen.append(page.evaluate(measure))
    wait_settled(page, _shown(page))
    seen.append(page.evaluate(measure))
    assert all(after == before for after in seen)


def _shown(page: Page) -> Recipe:
    """Return the recipe the sliders stand for."""
    ratio = int(page.get_by_label("Pruning ratio", exact=True).input_value())
    position = int(page.get_by_label("Bit-width", exact=True).input_value())
    steps = ([{"prune": {"ratio": ratio / 100}}] if ratio else []) + (
        [{"quantize": {"bits": position}}] if position < 9 else []
    )
    return Recipe.parse(steps)


def test_undo_and_redo_walk_the_settled_settings(page: Page) -> None:
    page.get_by_label("Bit-width", exact=True).fill("4")
    wait_settled(page, "- quantize: {bits: 4}")
    page.get_by_role("button", name="Undo").click()
    wait_settled(page, Recipe())
    assert page.get_by_label("Bit-width", exact=True).get_attribute("aria-valuetext", timeout=5_000).startswith("off")
    page.get_by_label("Bit-width", exact=True).press("Control+Shift+z")
    wait_settled(page, "- quantize: {bits: 4}")
    page.wait_for_function("document.querySelectorAll('.wb-controls input[type=range]')[1].value === '4'")


def test_another_model_can_be_picked(browser: Browser, app: Served) -> None:
    with open_page(browser, app) as page:
        picker = page.get_by_label("Model", exact=True)
        names = picker.evaluate("select => [...select.options].map(option => option.value)")
        other = next(name for name in names if name != picker.input_value())
        before = read(page, "size").value
        picker.select_option(other)
        page.wait_for_function(
            "before => Number(document.querySelector('[data-metric=size]').dataset.value) !== before",
            arg=before,
            timeout=60_000,
        )
        wait_settled(page, Recipe())
        page.get_by_label("Bit-width", exact=True).fill("5")
        wait_settled(page, "- quantize: {bits: 5}")


def wait_near(page: Page) -> None:
    """Wait until the figures are known where one slider moves alone: at 95 more ratios and 9 more bit-widths."""
    known = "() => Number(document.querySelector('.wb-controls').dataset.ahead) >= 104"
    page.wait_for_function(known, timeout=60_000)


def test_figures_found_beforehand_are_shown_while_the_kernel_stands_still(browser: Browser, app: Served) -> None:
    with open_page(browser, app) as page:
        wait_near(page)
        kernel = kernel_process(app, kernel_id(page))
        recipe = Recipe.parse("- prune: {ratio: 0.37}")
        kernel.suspend()
        try:
            page.get_by_role("slider", name="Pruning ratio", exact=True).fill("37")
            for metric in ("size", "accuracy"):
                shown = page.locator(f"[data-metric={metric}][data-recipe='{recipe.hash}'][aria-busy=false]")
                shown.wait_for(timeout=2_000)
            size, accuracy = read(page, "size"), read(page, "accuracy")
        finally:
            kernel.resume()
        wait_settled(page, recipe)
        assert read(page, "size") == size
        assert size.value == compress("resnet20", recipe, "fashion_mnist").nbytes
        assert (accuracy.kind, accuracy.n) == ("sampled", 64)
        first = next(change for change in watched(page, "accuracy", recipe.hash) if change["n"] == 128)
        assert accuracy.low <= read(page, "accuracy").value <= accuracy.high
        assert first["value"] != accuracy.value  # the kernel went on from there


def test_a_figure_that_the_kernel_never_confirms_is_taken_back(browser: Browser, app: Served) -> None:
    with open_page(browser, app) as page:
        wait_near(page)
        page.evaluate("""() => {
          const send = window.dispatchEvent.bind(window);
          window.dispatchEvent = (event) => {
            if (event.detail?.figures) event.detail.figures = { recipe: "another", size: { bytes: 1 } };
            return send(event);
          };
        }""")
        page.get_by_role("slider", name="Pruning ratio", exact=True).fill("36")
        page.wait_for_selector("[data-metric=size][data-recipe=another]")
        wait_settled(page, "- prune: {ratio: 0.36}")


def test_page_asks_for_nothing_beyond_its_own_server(page: Page, app: Served) -> None:
    hosts = {urlparse(url).netloc for url in page.asked if not url.startswith(("data:", "blob:"))}
    assert hosts == {urlparse(app.url).netloc}


def test_server_hands_out_no_files(app: Served) -> None:
    for path in (
        "voila/files/app.ipynb",
        "voila/files/../pyproject.toml",
        "app.ipynb",
        "voila/files/.git/config",
    ):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(app.url + path, timeout=10)
        assert refused.value.code in (403, 404)
        refused.value.close()


def test_a_closed_page_takes_its_kernel_with_it(browser: Browser, app: Served) -> None:
    context = browser.new_context()
    page = context.new_page()
    sockets: list[str] = []
    page.on("websocket", lambda socket: sockets.append(socket.url))
    page.goto(app.url)
    page.wait_for_selector("[data-metric=size][data-recipe]", timeout=60_000)
    name = next(found[1] for url in sockets if (found := re.search(r"/api/kernels/([\w-]+)/channels", url)))
    kernel = kernel_process(app, name)
    page.close(run_before_unload=True)
    context.close()
    # Sooner than the grace for pages that vanish: this one could say goodbye.
    kernel.wait(15)


def test_on_a_phone_the_figures_stay_in_sight_and_nothing_overflows(browser: Browser, app: Served) -> None:
    with open_page(browser, app, viewport={"width": 390, "height": 844}, has_touch=True) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
        for metric in ("accuracy", "size", "latency"):
            box = page.locator(f"[data-metric={metric}]").bounding_box()
            assert box is not None
            assert 0 <= box["y"] < 20
            assert box["height"] < 200


def test_at_1440_by_900_all_is_above_the_fold(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollHeight") <= 900


def test_a_described_device_shows_ratio_first_and_the_reason(page: Page) -> None:
    recipe = Recipe.parse("- prune: {ratio: 0.5}")
    page.get_by_label("Pruning ratio", exact=True).fill("50")
    wait_settled(page, recipe)
    here = read(page, "latency")
    page.locator("select.wb-device").select_option("raspberry-pi-5")
    card = page.locator("[data-metric=latency]")
    card.get_by_text("Masked weights gain nothing").wait_for()
    assert "same" in card.inner_text()
    assert "mJ" in card.inner_text()
    there = read(page, "latency")
    assert there.low < there.value < there.high
    assert there.value != here.value
    page.locator("select.wb-device").select_option("this-machine")
    card.get_by_role("button", name="Measure").wait_for()
