"""What a server bears: how soon a page is there, eight pages dragged at once, twenty opened and closed.

The browser runs on the same cores as the kernels, so the eight pages' times hold its drawing too.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from playwright.sync_api import Browser, Page, sync_playwright

from tests.bench.page import learn_kernels
from tests.browser.launch import CHROMIUM, Served, serve_app
from tests.browser.reading import wait_ready
from tests.chromium import MISSING, find_chromium
from workbench.recipe import Recipe

URL_SECONDS, OPEN_SECONDS = 6.0, 4.0
PAGES, DRAG_SECONDS, LAST_MS = 8, 10.0, 1_000
VISITS, GROWTH = 20, 1.10

#: Drags "Pruning ratio" to and fro and ends on `last`; `window.dragged` becomes [ms to size, ms to accuracy].
DRAG = """({ seconds, last, recipe }) => {
  const slider = document.querySelector(".wb-controls input[type=range]");
  const card = (metric) => document.querySelector(`[data-metric=${metric}]`);
  const move = (value) => { slider.value = value; slider.dispatchEvent(new Event("input", { bubbles: true })); };
  const until = (metric) => new Promise((resolve) => {
    const look = () => {
      if (card(metric).dataset.recipe !== recipe) return;
      observer.disconnect();
      requestAnimationFrame(() => resolve(performance.now()));
    };
    const observer = new MutationObserver(look);
    observer.observe(document.body, { subtree: true, attributes: true, attributeFilter: ["data-recipe"] });
    look();
  });
  const run = async () => {
    const end = performance.now() + seconds * 1000;
    for (let step = 0; performance.now() < end; step += 1) {
      move(2 + (step * 3) % 88);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    const [size, accuracy] = [until("size"), until("accuracy")];
    const start = performance.now();
    move(last);
    return [(await size) - start, (await accuracy) - start];
  };
  window.dragged = null;
  run().then((times) => { window.dragged = times; });
}"""

#: The id of the kernel behind a page.
KERNEL = "JSON.parse(document.getElementById('jupyter-config-data').textContent).kernelId"


def main() -> int:
    chromium = find_chromium()
    if chromium is None:
        print(MISSING)
        return 1
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        home = Path(folder)
        learn_kernels(home)
        browser = playwright.chromium.launch(executable_path=chromium, args=list(CHROMIUM))
        start = time.perf_counter()
        with serve_app(home) as app:
            passed = [report("URL printed", time.perf_counter() - start, URL_SECONDS)]
            passed.append(opening(browser, app))
            passed.append(together(browser, app))
            passed.append(one_after_another(browser, app))
        browser.close()
    return 0 if all(passed) else 1


def report(what: str, value: float, most: float, unit: str = "s", digits: int = 2) -> bool:
    verdict = "" if value <= most else "  MISSED"
    print(f"  {what:<44} {value:8.{digits}f} {unit}  (must: <= {most:g} {unit}){verdict}", flush=True)
    return value <= most


def opening(browser: Browser, app: Served, times: int = 5) -> bool:
    """From the address typed to sliders and figures that answer, with a page kept ready."""
    seconds, painted = [], []
    for _ in range(times):
        wait_until(lambda: idle_kernels(app) == 1, 240)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        start = time.perf_counter()
        page.goto(app.url)
        wait_ready(page)
        seconds.append(time.perf_counter() - start)
        painted.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
        close(page)
    report("page opened to skeleton, median", statistics.median(painted), 300, "ms", 0)
    return report("page opened to interactive, median", statistics.median(seconds), OPEN_SECONDS)


def together(browser: Browser, app: Served) -> bool:
    """Eight pages, each dragged for a while: when does each show its last recipe's figures?"""
    pages = [browser.new_page(viewport={"width": 1440, "height": 900}) for _ in range(PAGES)]
    for page in pages:
        page.goto(app.url)
        wait_ready(page)
    opened = {page.evaluate(KERNEL) for page in pages}
    kernels = [kernel for kernel in kernel_processes(app) if any(name in " ".join(kernel.cmdline()) for name in opened)]
    for place, page in enumerate(pages):
        last = 31 + 2 * place
        recipe = Recipe.parse(f"- prune: {{ratio: {last / 100}}}").hash
        page.evaluate(DRAG, {"seconds": DRAG_SECONDS, "last": last, "recipe": recipe})
    times = []
    for page in pages:
        page.wait_for_function("window.dragged", timeout=60_000)
        times.append(page.evaluate("window.dragged"))
    died = PAGES - sum(kernel.is_running() for kernel in kernels)
    for page in pages:
        close(page)
    sizes, accuracies = zip(*times, strict=True)
    print("  last size, ms by page:     ", *(f"{ms:.0f}" for ms in sizes))
    print("  last accuracy, ms by page: ", *(f"{ms:.0f}" for ms in accuracies))
    print(f"  kernels that died: {died}")
    slowest = max(accuracies)
    return report(f"{PAGES} pages dragged at once: last figure, slowest", slowest, LAST_MS, "ms", 0) and not died


def one_after_another(browser: Browser, app: Served) -> bool:
    """Pages opened and closed: no kernel may be left, and no memory."""

    def visit() -> None:
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(app.url)
        page.wait_for_selector("[data-metric=size][data-recipe]:not([data-recipe=''])", timeout=60_000)
        close(page)

    def rest() -> float:
        wait_until(lambda: idle_kernels(app) == 1 and len(kernel_processes(app)) == 1, 240)
        return memory(app)

    visit()
    before = rest()
    for _ in range(VISITS):
        visit()
    after = rest()
    print(f"  server and spare kernel: {before / 1e6:.0f} MB before {VISITS} pages, {after / 1e6:.0f} MB after")
    return report(f"memory after {VISITS} pages opened and closed", after / before, GROWTH, "x")


def kernel_processes(app: Served) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(app.pid).children():
        with contextlib.suppress(psutil.Error):  # it is just ending
            if "ipykernel_launcher" in child.cmdline():
                found.append(child)
    return found


def idle_kernels(app: Served) -> int:
    """Return how many kernels have nothing left to do: the processor time of each stands still."""
    found = kernel_processes(app)
    before = [sum(kernel.cpu_times()[:2]) for kernel in found]
    time.sleep(1.0)
    still = 0
    for kernel, spent in zip(found, before, strict=True):
        try:
            still += sum(kernel.cpu_times()[:2]) - spent < 0.05 and spent > 1.0
        except psutil.Error:
            return 0
    return still


def memory(app: Served) -> float:
    server = psutil.Process(app.pid)
    return float(sum(process.memory_full_info().uss for process in [server, *server.children(recursive=True)]))


def wait_until(holds: Callable[[], Any], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError("the server did not come to rest")
        time.sleep(0.2)


def close(page: Page) -> None:
    page.close(run_before_unload=True)


if __name__ == "__main__":
    sys.exit(main())
