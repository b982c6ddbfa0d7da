"""The Train tab: a rung with one click, a method with its settings, jobs that can be stopped."""

from __future__ import annotations

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.reading import wait_settled

PRUNED = "- prune: {ratio: 0.7}"


@pytest.fixture
def tab(page: Page) -> Locator:
    page.get_by_role("slider", name="Pruning ratio", exact=True).fill("70")
    wait_settled(page, PRUNED)
    page.get_by_role("tab", name="Train").click()
    return page.locator(".wb-train")


@pytest.mark.slow
def test_a_rung_wins_points_back_and_joins_the_recipe(tab: Locator, page: Page) -> None:
    row = tab.get_by_role("row").filter(has_text="Recalibrate BatchNorm")
    expect(row).to_contain_text("–")
    row.get_by_role("button").click()
    expect(row).to_contain_text("+", timeout=90_000)
    wait_settled(page, f"{PRUNED}\n- recalibrate: {{}}")
    expect(tab.get_by_role("listitem").first).to_contain_text("in the recipe")
    expect(row.get_by_role("button")).to_have_text("Again")


def enter(tab: Locator, name: str, text: str) -> None:
    field = tab.get_by_label(name, exact=True)
    field.fill(text)
    field.press("Enter")


def test_a_method_shows_its_settings_and_a_job_that_runs_is_stopped(tab: Locator) -> None:
    tab.get_by_role("combobox", name="Method").select_option("prune_gradually")
    expect(tab.get_by_label("Ratio", exact=True)).to_have_value("0.8")
    tab.get_by_role("combobox", name="Method").select_option("finetune")
    expect(tab.get_by_label("Ratio", exact=True)).to_be_hidden()
    enter(tab, "Epochs", "0")
    expect(tab.get_by_text("“0” does not fit: type a whole number from 1 to 1000.")).to_be_visible()
    enter(tab, "Epochs", "5")
    tab.get_by_text("More settings").click()
    enter(tab, "Minutes", "0")
    expect(tab.get_by_text("“0” does not fit: type a number above 0 to 100000.")).to_be_visible()
    enter(tab, "Minutes", "")
    tab.get_by_role("button", name="Start", exact=True).click()
    job = tab.get_by_role("listitem").filter(has_text="Finetune, 5 epochs")
    expect(job).to_contain_text("running", timeout=30_000)
    job.get_by_role("button", name="Pause").click()
    expect(job).to_contain_text("paused")
    job.get_by_role("button", name="Stop").click()
    expect(job).to_contain_text("stopped; started again, it goes on from there", timeout=60_000)
    job.get_by_role("button", name="Take away").click()
    expect(job).to_have_count(0)


@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_is_wider_than_the_page(tab: Locator, page: Page, width: int) -> None:
    page.get_by_role("switch", name="Recalibrate BatchNorm").click()
    expect(tab.locator("tr.wb-in")).to_have_count(1, timeout=30_000)  # “in the recipe”, which CSS writes
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for box in (item.bounding_box() for item in tab.locator("section, canvas").all()):
        assert box is None or box["x"] + box["width"] <= width
    page.set_viewport_size({"width": 1440, "height": 900})
