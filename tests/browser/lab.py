"""Driving JupyterLab's own page."""

from __future__ import annotations

from playwright.sync_api import Page


def open_notebook(page: Page, url: str) -> None:
    """Open a notebook and wait until its kernel is ready."""
    page.goto(url)
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]", timeout=90_000)


def run_cell(page: Page, place: int, tries: int = 10) -> None:
    """Run a code cell; again when Lab, which rebuilds its cells as it opens, has lost the key.

    Cells rebuilt have forgotten that they wait to be run, and were seen to wait for a second before that. So a number
    is believed at once, and a star only if the kernel is at work and it stays.
    """
    cell = page.locator(".jp-CodeCell").nth(place)
    before = cell.locator(".jp-InputPrompt").inner_text()
    for _ in range(tries):
        asked = page.get_by_role("button", name="Select Kernel", exact=True)
        if asked.is_visible():  # Lab asks where it was told to run before it had its kernel
            asked.click()
        cell.locator(".cm-content").click()
        cell.locator(".cm-content").press("Control+Enter")
        if page.evaluate(_RUNS, [place, before]):
            return
    raise AssertionError(f"JupyterLab did not run cell {place}; its prompt still shows {before!r}")


#: Whether a cell is run: its number changes, or it waits for two seconds while the kernel is at work.
#: It is not once its prompt was the old one for two seconds.
_RUNS = """async ([place, before]) => {
  let waits = Infinity;
  let idle = Infinity;
  while (true) {
    const now = performance.now();
    const prompt = document.querySelectorAll(".jp-CodeCell")[place]?.querySelector(".jp-InputPrompt")?.innerText ?? "";
    if (prompt !== before && /\\d/.test(prompt)) return true;
    const kernel = document.querySelector(".jp-Notebook-ExecutionIndicator")?.dataset.status;
    waits = prompt.includes("*") && kernel === "busy" ? Math.min(waits, now) : Infinity;
    idle = prompt.includes("*") ? Infinity : Math.min(idle, now);
    if (now - waits > 2000 || now - idle > 2000) return now - waits > 2000;
    await new Promise((done) => setTimeout(done, 20));
  }
}"""
