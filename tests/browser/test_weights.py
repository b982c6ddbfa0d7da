"""The weights in the served app: small beside the sliders, large in their tab, and in step with each other."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

SMALL, LARGE = ".wb-area-weights", ".wb-panel-weights"
#: What drawing on a canvas would cost most: whether anything was drawn on it.
INK = """canvas => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return data.some((value, place) => place % 4 === 3 && value > 0);
}"""


@pytest.fixture
def tab(page: Page) -> Iterator[Locator]:
    page.get_by_role("tab", name="Weights").click()
    panel = page.locator(LARGE)
    expect(panel.locator(".wb-thumb").first).to_be_visible()
    yield panel
    page.get_by_role("tab", name="Layers").click()


def test_the_small_histogram_stays_in_its_card_with_one_line_of_legend(page: Page) -> None:
    small = page.locator(SMALL)
    page.get_by_label("Pruning ratio", exact=True).first.fill("50")
    page.get_by_label("Bit-width", exact=True).first.fill("4")
    expect(small.get_by_role("img")).to_have_attribute("aria-label", _like("pruned below", "16 values"))
    card, canvas, legend = (small.locator(part).bounding_box() for part in (".wb-weights", "canvas", ".wb-legend"))
    assert card is not None
    assert canvas is not None
    assert legend is not None
    assert legend["height"] < 24
    assert canvas["height"] > 80
    assert canvas["y"] >= legend["y"] + legend["height"]
    assert canvas["y"] + canvas["height"] <= card["y"] + card["height"]
    assert canvas["x"] + canvas["width"] <= card["x"] + card["width"]
    assert small.locator(".wb-legend").evaluate("legend => legend.scrollWidth <= legend.clientWidth")
    assert small.locator("canvas").evaluate(INK)


def test_a_layer_chosen_among_all_is_drawn_in_both_places(page: Page, tab: Locator) -> None:
    layers = tab.locator(".wb-thumb")
    names = tab.get_by_label("Layer shown").evaluate("select => [...select.options].map(option => option.value)")
    assert layers.count() == len(names) > 10
    expect(tab.locator("[aria-selected=true] .wb-thumb-after")).to_have_attribute("d", _like("^M0 1V"))
    layers.nth(2).click()
    for place in (SMALL, LARGE):
        expect(page.locator(place).get_by_role("img")).to_have_attribute("aria-label", _like(f"of {names[2]}:"))
        expect(page.locator(f"{place} select[id]")).to_have_value(names[2])
    expect(layers.nth(2)).to_have_attribute("aria-selected", "true")


def test_layers_are_walked_with_keys_and_with_buttons(page: Page, tab: Locator) -> None:
    layers, shown = tab.locator(".wb-thumb"), tab.get_by_label("Layer shown")
    names = shown.evaluate("select => [...select.options].map(option => option.value)")
    layers.nth(1).click()
    expect(shown).to_have_value(names[1])
    page.keyboard.press("ArrowRight")
    expect(shown).to_have_value(names[2])
    expect(layers.nth(2)).to_be_focused()
    page.keyboard.press("End")
    expect(shown).to_have_value(names[-1])
    expect(layers.last).to_be_in_viewport()
    expect(tab.get_by_role("button", name="Next layer")).to_be_disabled()
    tab.get_by_role("button", name="Previous layer").click()
    expect(shown).to_have_value(names[-2])
    assert tab.locator("[role=option][tabindex='0']").count() == 1


def test_channels_are_drawn_on_request_and_read_with_the_keys(page: Page, tab: Locator) -> None:
    canvas = tab.get_by_role("img")
    tab.get_by_role("radio", name="Channels").check()
    expect(canvas).to_have_attribute("aria-label", _like("Ranges of the channels"))
    assert canvas.evaluate(INK)
    canvas.focus()
    page.keyboard.press("ArrowRight")
    expect(canvas).to_have_attribute("aria-label", _like("channel 0: .* before, .* after"))
    tab.get_by_role("radio", name="Histogram").check()
    expect(canvas).to_have_attribute("aria-label", _like("Histogram of"))


def test_singular_values_and_the_energy_they_keep_are_read_with_the_keys(page: Page, tab: Locator) -> None:
    canvas = tab.get_by_role("img")
    tab.get_by_role("radio", name="Spectrum").check()
    expect(canvas).to_have_attribute("aria-label", _like("Singular values of", "90 % of the energy in"))
    assert canvas.evaluate(INK)
    canvas.focus()
    page.keyboard.press("ArrowRight")
    expect(canvas).to_have_attribute("aria-label", _like("rank 1: [0-9.]+ % of the energy before"))
    page.keyboard.press("Escape")
    tab.get_by_role("radio", name="Histogram").check()


def test_kernels_are_drawn_as_images_and_close_up(page: Page, tab: Locator) -> None:
    canvas = tab.get_by_role("img")
    tab.get_by_label("Layer shown").select_option("stage3.1.conv1")
    page.get_by_label("Pruning ratio", exact=True).first.fill("90")
    tab.get_by_role("radio", name="Filters").check()
    expect(canvas).to_have_attribute(
        "aria-label", _like("Pictures of the weights of stage3.1.conv1", "outputs 0 to 31 of 64")
    )
    assert canvas.evaluate(INK)
    canvas.focus()
    page.keyboard.press("ArrowDown")
    expect(canvas).to_have_attribute(
        "aria-label", _like("output 0, input 0: 0 of 9 zero before, [1-9] of 9 zero after")
    )
    tab.get_by_role("button", name="Next page of weights").click()
    expect(canvas).to_have_attribute("aria-label", _like("inputs 32 to 63 of 64"))
    tab.get_by_label("close up").check()
    expect(canvas).to_have_attribute("aria-label", _like("outputs 0 to 15 of 64", "weights 0 to 31 of 576"))
    tab.get_by_label("close up").uncheck()
    tab.get_by_role("radio", name="Histogram").check()


def test_counts_are_drawn_on_either_scale(page: Page, tab: Locator) -> None:
    canvas = tab.get_by_role("img")
    picture = "canvas => canvas.toDataURL()"
    tab.get_by_label("log counts").check()
    drawn = canvas.evaluate(picture)
    tab.get_by_label("log counts").uncheck()
    page.wait_for_function(
        "([canvas, drawn]) => canvas.toDataURL() !== drawn", arg=[canvas.element_handle(), drawn], timeout=10_000
    )
    tab.get_by_label("log counts").check()


def _like(*parts: str) -> re.Pattern[str]:
    return re.compile(".*".join(parts))
