"""Driving JupyterLab's own page."""

from __future__ import annotations

from playwright.sync_api import Page, TimeoutError


def open_notebook(page: Page, url: str) -> None:
    """Open a notebook and wait until its kernel is ready."""
    page.goto(url)
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]", timeout=90_000)


def run_cell(page: Page, place: int, tries: int = 10) -> None:
    """Run a code cell; again when Lab, which rebuilds its cells as it opens, has lost the key."""
    cell = page.locator(".jp-CodeCell").nth(place)
    prompt = cell.locator(".jp-InputPrompt")
    before = prompt.inner_text()
    for _ in range(tries):
        asked = page.get_by_role("button", name="Select Kernel", exact=True)
        if asked.is_visible():  # Lab asks where it was told to run before it had its kernel
            asked.click()
        cell.locator(".cm-content").click()
        cell.locator(".cm-content").press("Control+Enter")
        try:
            page.wait_for_function(
                "([place, before]) => document.querySelectorAll('.jp-CodeCell')[place]"
                "?.querySelector('.jp-InputPrompt').innerText !== before",
                arg=[place, before],
                timeout=2_000,
            )
        except TimeoutError:
            continue
        page.wait_for_timeout(300)
        if prompt.inner_text() != before:  # rebuilt cells have forgotten that they were run
            return
    raise AssertionError(f"JupyterLab did not run cell {place}; its prompt still shows {before!r}")
