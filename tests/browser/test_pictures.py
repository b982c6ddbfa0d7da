"""The README's pictures, taken from the running app: ``WORKBENCH_SCREENSHOTS=1 make test ARGS='-k pictures'``."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

from tests.browser.conftest import open_page
from tests.browser.launch import ROOT, Served
from tests.browser.reading import wait_settled

pytestmark = pytest.mark.skipif(
    not os.environ.get("WORKBENCH_SCREENSHOTS"), reason="set WORKBENCH_SCREENSHOTS=1 to take the pictures anew"
)
FOLDER = Path(os.environ.get("WORKBENCH_SCREENSHOTS_TO", ROOT / "docs"))
RECIPE = "- prune: {ratio: 0.6}\n- quantize: {bits: 4}\n- recalibrate: {}"


@pytest.mark.parametrize(
    ("name", "width", "height", "scheme"),
    [
        ("app", 1440, 900, "light"),
        ("app-dark", 1440, 900, "dark"),
        ("app-phone", 390, 844, "light"),
        ("app-phone-dark", 390, 844, "dark"),
    ],
)
def test_pictures_of_the_page(browser: Browser, app: Served, name: str, width: int, height: int, scheme: str) -> None:
    FOLDER.mkdir(exist_ok=True)
    with open_page(browser, app, viewport={"width": width, "height": height}, color_scheme=scheme) as page:
        page.get_by_role("button", name="Small file").click()
        wait_settled(page, RECIPE)
        page.mouse.click(2, 2)
        page.screenshot(path=FOLDER / f"{name}.png")


def test_pictures_of_every_tab(browser: Browser, app: Served) -> None:
    with open_page(browser, app) as page:
        page.get_by_role("button", name="Small file").click()
        wait_settled(page, RECIPE)
        page.get_by_role("tab", name="Sensitivity", exact=True).click()
        page.get_by_role("button", name="Start", exact=False).first.click()
        for name in page.get_by_role("tab").all_inner_texts():
            page.get_by_role("tab", name=name, exact=True).click()
            page.wait_for_timeout(1500)
            page.screenshot(path=FOLDER / f"tab-{name.lower()}.png")


def test_pictures_that_move(browser: Browser, app: Served) -> None:
    """A hand prunes, sees accuracy fall, recalibrates, and quantizes: the first minute in fifteen seconds."""
    with open_page(browser, app) as page:
        frames = [frame for part in (_prune, _repair, _quantize) for frame in part(page)]
    images = [
        Image.open(io.BytesIO(png)).convert("RGB").resize((960, 600), Image.Resampling.LANCZOS) for png, _ in frames
    ]
    palette = images[len(images) // 2].quantize(128)
    first, *rest = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    durations = [duration for _, duration in frames]
    path = FOLDER / "app.gif"
    first.save(path, save_all=True, append_images=rest, duration=durations, loop=0, optimize=True)
    assert path.stat().st_size < 3_000_000
    with Image.open(path) as moving:
        assert moving.n_frames > 30


Frame = tuple[bytes, int]


def _look(page: Page, duration: int = 90) -> Frame:
    return page.screenshot(), duration


def _slide(page: Page, name: str, start: float, end: float, steps: int) -> Iterator[Frame]:
    """Drag a slider's thumb, taking a picture after every step."""
    box = page.get_by_label(name, exact=True).bounding_box()
    assert box is not None
    y, inside = box["y"] + box["height"] / 2, box["width"] - 16
    page.mouse.move(box["x"] + 8 + start * inside, y)
    page.mouse.down()
    for step in range(1, steps + 1):
        page.mouse.move(box["x"] + 8 + (start + (end - start) * step / steps) * inside, y)
        page.wait_for_timeout(70)
        yield _look(page)
    page.mouse.up()


def _narrowing(page: Page) -> Iterator[Frame]:
    """Take pictures while the interval narrows, up to the exact figure."""
    for _ in range(12):
        yield _look(page, 150)
        if page.get_attribute("[data-metric=accuracy]", "data-kind") == "exact":
            break
        page.wait_for_timeout(150)


def _prune(page: Page) -> Iterator[Frame]:
    yield _look(page, 1400)
    yield from _slide(page, "Pruning ratio", 0, 0.76, 14)
    yield from _narrowing(page)
    yield _look(page, 1200)


def _repair(page: Page) -> Iterator[Frame]:
    page.get_by_role("switch", name="Recalibrate BatchNorm").click()
    page.wait_for_timeout(250)
    yield from _narrowing(page)
    yield _look(page, 1400)


def _quantize(page: Page) -> Iterator[Frame]:
    yield from _slide(page, "Bit-width", 1, 3 / 9, 8)
    yield from _narrowing(page)
    yield _look(page, 2200)
