"""Find the best, in the served app: a budget is asked for, answered, applied with one click, and undone."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from tests.browser.reading import read


@pytest.fixture
def view(page: Page) -> Iterator[Locator]:
    page.get_by_role("tab", name="Find the best").click()
    yield page.locator(".wb-panel-allocation")
    page.get_by_role("tab", name="Layers").click()


def test_an_answer_is_found_within_a_budget_applied_and_undone(view: Locator) -> None:
    page = view.page
    before = read(page, "size").value
    view.get_by_role("spinbutton", name="Budget").fill("150")
    view.get_by_role("checkbox", name="prune weights").uncheck()
    view.get_by_role("button", name="Find the best").click()
    expect(view.get_by_role("button", name="Cancel")).to_be_visible()
    best = view.get_by_role("row", name="Best found")
    expect(best).to_be_visible(timeout=150_000)
    assert not Axe().run(page, context=".wb-allocation").response["violations"]
    cancel = view.get_by_role("button", name="Cancel")
    if cancel.is_visible():
        cancel.click()
    expect(view.get_by_role("button", name="Find again")).to_be_visible(timeout=30_000)
    best.get_by_role("button", name="Apply to the sliders: Best found").click()
    expect(best.get_by_role("button")).to_have_text("Set")
    page.wait_for_function("() => Number(document.querySelector('[data-metric=size]').dataset.value) <= 150000")
    assert read(page, "size").value <= 150_000 < before
    page.get_by_role("button", name=re.compile("^Undo")).click()
    page.wait_for_function(
        "size => Number(document.querySelector('[data-metric=size]').dataset.value) === size", arg=before
    )


def test_a_budget_that_cannot_be_met_names_the_nearest(view: Locator) -> None:
    view.get_by_role("spinbutton", name="Budget").fill("3")
    view.get_by_role("button", name=re.compile("^Find")).click()
    expect(view.get_by_role("alert")).to_contain_text("the nearest that can is", timeout=90_000)
