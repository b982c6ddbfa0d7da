"""Flipped images in the page, and an image of one's own: drawn, uploaded, refused."""

from __future__ import annotations

import io
import itertools
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import open_page
from tests.browser.launch import Served
from tests.browser.reading import wait_settled

HARSH = "- prune: {ratio: 0.6}\n- quantize: {bits: 3}"
STRIP = ".wb-strip .wb-flip:not([hidden])"
#: Whether every picture on display is there and not of one colour.
DRAWN = """selector => [...document.querySelectorAll(selector)].every((card) => {
  const canvas = card.querySelector("canvas");
  if (!canvas.dataset.drawn) return false;
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return new Set(data).size > 3;
})"""


#: Whether anything on a canvas is not black.
INKED = """canvas => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data
  .some((value, place) => place % 4 < 3 && value)"""
#: Whether both models have answered the image of one's own.
ANSWERED = "[...document.querySelectorAll('.wb-own .wb-share')].every(share => share.textContent.includes('%'))"


def go_harsh(page: Page) -> None:
    page.get_by_role("slider", name="Pruning ratio", exact=True).fill("60")
    page.get_by_role("slider", name="Bit-width", exact=True).fill("3")
    wait_settled(page, HARSH)
    page.wait_for_function("document.querySelector('.wb-strip-head p').textContent.includes('lost')")


def open_examples(page: Page) -> None:
    page.get_by_role("tab", name="Examples").click()


def draw_something(page: Page) -> None:
    pad = page.locator(".wb-pad")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    assert box is not None

    def at(x: float, y: float) -> tuple[float, float]:
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    page.mouse.move(*at(0.3, 0.2))
    page.mouse.down()
    for x, y in ((0.7, 0.2), (0.7, 0.8), (0.3, 0.8), (0.3, 0.2), (0.7, 0.8)):
        page.mouse.move(*at(x, y), steps=5)
    page.mouse.up()


def upload(page: Page, name: str, content: bytes) -> None:
    page.get_by_label("Upload an image").set_input_files({"name": name, "mimeType": "image/png", "buffer": content})


def answers(page: Page) -> list[str]:
    return page.locator(".wb-own .wb-share").all_inner_texts()


@pytest.fixture
def empty_pad(page: Page) -> Any:
    """Return the page with its Examples open and nothing drawn."""
    open_examples(page)
    page.get_by_role("button", name="Clear").click()
    page.wait_for_function("[...document.querySelectorAll('.wb-own .wb-share')].every(share => !share.textContent)")
    return page


def test_the_strip_shows_flipped_images_with_both_answers_at_a_constant_height(page: Page) -> None:
    page.get_by_role("tab", name="Layers").click()  # tabs that need the height take the strip's
    strip = page.locator(".wb-strip")
    before = strip.bounding_box()
    assert before
    go_harsh(page)
    cards = page.locator(STRIP)
    assert cards.count() >= 5
    page.wait_for_function(DRAWN, arg=STRIP)
    first = cards.first.inner_text()
    assert first.count("%") == 2
    assert "→" in first
    assert any(word in first for word in ("lost", "won back", "both wrong"))
    assert strip.bounding_box() == before
    page.get_by_role("button", name="Reset").click()
    expect(page.locator(".wb-strip-head p")).to_have_text("No answer of 10,000 changed.")
    assert cards.count() == 0
    assert strip.bounding_box() == before


def test_images_that_were_not_flipped_before_are_marked_new_and_come_first(page: Page) -> None:
    go_harsh(page)
    page.get_by_role("slider", name="Bit-width", exact=True).fill("2")
    wait_settled(page, "- prune: {ratio: 0.6}\n- quantize: {bits: 2}")
    page.wait_for_function("document.querySelector('.wb-strip .wb-new:not([hidden])')")
    marks = page.locator(STRIP).evaluate_all("cards => cards.map(card => !card.querySelector('.wb-new').hidden)")
    assert marks[0]


def test_the_grid_is_filtered_and_an_image_enlarged_and_left_by_keyboard(page: Page) -> None:
    open_examples(page)
    expect(page.get_by_label("Truly", exact=True).locator("option")).to_have_text(["any class"])  # nothing is flipped
    page.get_by_role("tab", name="Layers").click()
    go_harsh(page)
    open_examples(page)
    cards = page.locator(".wb-flips .wb-flip")
    expect(cards).to_have_count(48)
    page.wait_for_function(DRAWN, arg=".wb-flips .wb-flip")
    show = page.locator(".wb-examples").get_by_label("Show", exact=True)
    show.select_option("lost")
    kinds = cards.evaluate_all("cards => cards.map(card => card.dataset.kind)")
    assert set(kinds) == {"lost"}
    assert len(kinds) < 48
    page.get_by_label("Order", exact=True).select_option("sure")
    sure = cards.evaluate_all(
        "cards => cards.map(card => [...card.querySelectorAll('.wb-answer')]"
        ".reduce((sum, node) => sum + Number(node.textContent.match(/(\\d+) %/)[1]), 0))"
    )
    assert all(one >= other - 2 for one, other in itertools.pairwise(sure))  # each is rounded to a per cent
    assert sure[0] > sure[-1]
    page.get_by_label("Order", exact=True).select_option("")
    cards.nth(1).focus()
    page.keyboard.press("Enter")
    closer = page.get_by_role("group", name="One image")
    expect(closer.get_by_role("heading").first).to_contain_text("Test image")
    expect(closer.locator(".wb-side-dense li.wb-true")).to_have_count(1)
    titles = [closer.get_by_role("heading").first.inner_text()]
    page.keyboard.press("ArrowRight")
    expect(closer.get_by_role("heading").first).not_to_have_text(titles[0])
    page.keyboard.press("Escape")
    expect(closer).to_be_hidden()
    assert page.evaluate("document.activeElement.classList.contains('wb-flip')")
    show.select_option("")


def test_a_drawing_is_answered_by_both_models_and_again_when_the_recipe_settles(empty_pad: Page) -> None:
    empty_pad.locator(".wb-pad").click()  # a dot: one picture, sent whole
    empty_pad.wait_for_function(ANSWERED)
    before = answers(empty_pad)
    assert len(before) == 6
    assert before[:3] == before[3:]
    assert "under dense" in empty_pad.locator(".wb-own .wb-verdict").inner_text()
    go_harsh(empty_pad)
    expect(empty_pad.locator(".wb-own .wb-verdict")).to_contain_text("60 % pruned · 3 bit")
    after = answers(empty_pad)
    assert after[:3] == before[:3]
    assert after[3:] != before[3:]


def test_strokes_are_answered_and_clear_wipes_them(empty_pad: Page) -> None:
    draw_something(empty_pad)
    empty_pad.wait_for_function(ANSWERED)
    assert empty_pad.locator(".wb-seen").evaluate(INKED)
    empty_pad.get_by_role("button", name="Clear").click()
    empty_pad.wait_for_function("!document.querySelector('.wb-own .wb-share').textContent")
    assert not empty_pad.locator(".wb-seen").evaluate(INKED)


def test_an_uploaded_image_is_shown_as_the_model_sees_it_and_can_be_inverted(empty_pad: Page) -> None:
    target = io.BytesIO()
    Image.fromarray(np.pad(np.zeros((300, 200), np.uint8), 100, constant_values=255)).save(target, "PNG")
    upload(empty_pad, "coat.png", target.getvalue())
    empty_pad.wait_for_function(ANSWERED)
    before = answers(empty_pad)
    corner = "canvas => canvas.getContext('2d').getImageData(1, 1, 1, 1).data[0]"
    assert empty_pad.locator(".wb-seen").evaluate(corner) == 255
    empty_pad.get_by_label("Invert").check()
    empty_pad.wait_for_function(
        "before => [...document.querySelectorAll('.wb-own .wb-share')].map(s => s.textContent).join() !== before",
        arg=",".join(before),
    )
    empty_pad.get_by_label("Invert").uncheck()


@pytest.mark.slow
def test_what_cannot_be_read_is_said_beside_the_pad_and_cleared_by_the_next(empty_pad: Page) -> None:
    problem = empty_pad.locator(".wb-own .wb-problem")
    target = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)).save(target, "PNG")
    for name, content, words in (
        ("notes.png", b"no image", "is no image that can be read"),
        ("empty.png", b"", "is empty"),
        ("half.png", target.getvalue()[:9_000], "cut off"),
        ("huge.png", bytes(20_000_001), "an image may have 20 MB"),
    ):
        upload(empty_pad, name, content)
        expect(problem).to_contain_text(words)
        expect(problem).to_contain_text(name)
    upload(empty_pad, "good.png", target.getvalue())
    expect(problem).to_be_empty()
    empty_pad.wait_for_function(ANSWERED)


def test_a_file_can_be_dropped_and_pasted(empty_pad: Page) -> None:
    for kind, field in (("drop", "dataTransfer"), ("paste", "clipboardData")):
        empty_pad.evaluate(
            """async ([kind, field]) => {
              const canvas = new OffscreenCanvas(40, 40);
              const pen = canvas.getContext("2d");
              pen.fillStyle = "#fff";
              pen.fillRect(10, 5, 20, 30);
              const files = new DataTransfer();
              files.items.add(new File([await canvas.convertToBlob()], `${kind}.png`, { type: "image/png" }));
              const event = kind === "drop"
                ? new DragEvent(kind, { dataTransfer: files, bubbles: true, cancelable: true })
                : new ClipboardEvent(kind, { clipboardData: files, bubbles: true, cancelable: true });
              document.activeElement?.blur?.();
              (kind === "drop" ? document.querySelector(".wb-pad") : document.body).dispatchEvent(event);
            }""",
            [kind, field],
        )
        empty_pad.wait_for_function(ANSWERED)
        empty_pad.get_by_role("button", name="Clear").click()
        empty_pad.wait_for_function("!document.querySelector('.wb-own .wb-share').textContent")


def test_on_a_phone_the_strip_scrolls_by_itself_and_a_finger_draws(browser: Browser, app: Served) -> None:
    with open_page(browser, app, viewport={"width": 390, "height": 844}, has_touch=True) as page:
        go_harsh(page)
        row = page.locator(".wb-strip-row")
        assert row.evaluate("row => row.scrollWidth > row.clientWidth && row.tabIndex === 0")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        open_examples(page)
        pad = page.locator(".wb-pad")
        pad.scroll_into_view_if_needed()
        pad.tap()
        page.wait_for_function(ANSWERED)
