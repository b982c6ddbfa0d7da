"""Which classes a recipe hurts cannot be missed, and what else changed is a tab away."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.reading import wait_settled

HARSH = "- prune: {ratio: 0.6}\n- quantize: {bits: 3}"
HARM = ".wb-harm"


def go_harsh(page: Page) -> None:
    page.get_by_role("slider", name="Pruning ratio", exact=True).fill("60")
    page.get_by_role("slider", name="Bit-width", exact=True).fill("3")
    wait_settled(page, HARSH)


def test_hurt_classes_are_named_under_the_figures_and_gone_when_the_recipe_moves(page: Page) -> None:
    line = page.locator(HARM)
    expect(line).to_contain_text("nothing to compare")
    height = line.bounding_box()["height"]  # type: ignore[index]
    go_harsh(page)
    expect(line).to_have_class("wb-harm wb-hurting")
    expect(line).to_contain_text("Shirt −")
    assert "Shirt" in (line.get_attribute("data-hurt") or "")
    assert line.bounding_box()["height"] == height  # type: ignore[index]
    recipe = line.get_attribute("data-recipe")
    page.get_by_role("slider", name="Bit-width", exact=True).fill("8")
    expect(line).not_to_have_attribute("data-recipe", recipe or "")
    expect(line).to_have_attribute("data-hurt", "")


def test_the_behaviour_tab_answers_one_question_at_a_time(page: Page) -> None:
    go_harsh(page)
    page.get_by_role("button", name="See classes").click()
    hurt = page.locator(".wb-behaviour tr[data-hurt=true]")
    expect(hurt.first).to_contain_text("Shirt")
    names = [row.get_attribute("data-class") for row in hurt.all()]
    assert names == (page.locator(HARM).get_attribute("data-hurt") or "").split(",")
    for title, part, what in (
        ("Confusion", "confusion", "Shirt taken for"),
        ("Confidence", "calibration", "Expected calibration error"),
        ("Drift", "drift", "stage3.0.conv1"),
        ("Attribution", "attribution", "similarity of both maps"),
    ):
        page.locator(".wb-behaviour .wb-segments label", has_text=title).first.click()
        stage = page.locator(f".wb-behaviour .wb-stage[data-part={part}]")
        expect(stage).to_contain_text(what, timeout=60_000)
    page.locator(".wb-behaviour .wb-segments label", has_text="Corruptions").click()
    expect(page.get_by_role("button", name="Run the corruptions")).to_be_visible()


def test_nothing_is_said_of_corruptions_that_were_not_run(page: Page) -> None:
    page.get_by_role("slider", name="Bit-width", exact=True).fill("6")
    wait_settled(page, "- quantize: {bits: 6}")
    page.get_by_role("tab", name="Behaviour").click()
    page.locator(".wb-behaviour .wb-segments label", has_text="Corruptions").click()
    page.get_by_role("button", name="Run the corruptions").click()
    said = page.locator(".wb-corruptions .wb-verdict")
    expect(said).to_contain_text("On clean images", timeout=60_000)
    page.locator(".wb-behaviour").get_by_role("button", name="Stop", exact=True).click()
    expect(said).to_contain_text(re.compile("no corruption was run yet|run so far"))


@pytest.mark.parametrize("part", ["Classes", "Confusion", "Confidence", "Drift", "Attribution"])
def test_no_part_is_wider_than_a_phone(page: Page, part: str) -> None:
    go_harsh(page)
    page.get_by_role("tab", name="Behaviour").click()
    page.locator(".wb-behaviour .wb-segments label", has_text=part).first.click()
    page.set_viewport_size({"width": 390, "height": 844})
    try:
        page.wait_for_selector(".wb-behaviour .wb-stage:not(.wb-stale)", timeout=60_000)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        box = page.locator(".wb-behaviour").bounding_box()
        assert box is not None
        assert box["width"] <= 390
    finally:
        page.set_viewport_size({"width": 1440, "height": 900})
