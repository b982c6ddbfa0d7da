"""Reopening a history of 10,000 settings: how much later the page is interactive than on an empty one, and the scatter.

The page is served with a history that holds nothing but the dense model's figures, then with 10,000 settings beside
them. Interactive is when the dense model's figures are exact on the page. The scatter is timed in the page itself,
from the click on the tab until the plot tells that it holds every setting, two frames later. Of several tries of
each, in turn, the medians count. ``python -m tests.bench.history [--settings 10000] [--tries 5]``.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from playwright.sync_api import Browser, sync_playwright

from tests.bench.recipes import random_live_recipes
from tests.bench.record import Figure, keep
from tests.browser.launch import CHROMIUM, Served, serve_app
from tests.browser.reading import wait_ready
from tests.chromium import MISSING, find_chromium
from workbench.history import History, Record
from workbench.session import Session

MORE_S, SCATTER_S = 2.0, 0.5
#: Clicks the tab and resolves to the milliseconds until all settings are drawn.
SCATTER = """async (settings) => {
  const plot = document.querySelector(".wb-tradeoff [role=application]");
  const frame = () => new Promise(requestAnimationFrame);
  const start = performance.now();
  [...document.querySelectorAll("[role=tab]")].find((tab) => tab.textContent === "Trade-off").click();
  const told = () => plot.getAttribute("aria-label").match(/: ([\\d,]+) settings?,/)?.[1] ?? "0";
  const counted = () => Number(told().replaceAll(",", ""));
  while (counted() < settings) await frame();
  await frame();
  await frame();
  return performance.now() - start;
}"""


def main() -> int:
    """Print the figures and return 1 where one misses what it must reach."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--settings", type=int, default=10_000)
    parser.add_argument("--tries", type=int, default=5)
    options = parser.parse_args()
    chromium, began = find_chromium(), time.perf_counter()
    if chromium is None:
        print(MISSING)
        return 1
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        empty, full = Path(folder) / "empty", Path(folder) / "full"
        fill(empty, full, options.settings)
        browser = playwright.chromium.launch(executable_path=chromium, args=list(CHROMIUM))
        opened: dict[str, list[float]] = {"empty": [], "full": []}
        drawn: list[float] = []
        with serve_app(empty, "--pool", "0") as one, serve_app(full, "--pool", "0") as other:
            apps = (("empty", one, 1), ("full", other, options.settings))
            for name, app, settings in apps * (1 + options.tries):  # in turn, so that other work hits both alike
                seconds, scatter = open_once(browser, app, settings)
                opened[name].append(seconds)
                drawn += [scatter] if name == "full" else []
        for times in (*opened.values(), drawn):
            del times[0]  # the first page also loads what every later one shares
        browser.close()
    more, scatter = median(opened["full"]) - median(opened["empty"]), median(drawn)
    what = f"A history of {options.settings:,} settings reopened in the page"
    figures = [
        Figure(
            f"{what}: interactive later than an empty one", f"≤ {MORE_S} s",
            f"{more:+.2f} s ({median(opened['full']):.2f} s, empty {median(opened['empty']):.2f} s)", more <= MORE_S,
        ),
        Figure(
            f"{what}: scatter drawn after the click", f"≤ {SCATTER_S} s",
            f"{scatter:.2f} s, {min(drawn):.2f} to {max(drawn):.2f}", scatter <= SCATTER_S,
        ),
    ]  # fmt: skip
    runs = [{"empty": opened["empty"], "full": opened["full"], "scatter": drawn}]
    keep("history", figures, data="fashion_mnist", seeds=[3], seconds=time.perf_counter() - began, runs=runs)
    return int(not all(figure.reached for figure in figures))


def fill(empty: Path, full: Path, settings: int) -> None:
    """Measure the dense model into a history, and copy it with so many settings more."""
    empty.mkdir()
    with Session("resnet20", "fashion_mnist", history=str(empty / "history.sqlite")) as session:
        session.measure()
        key, n = session.key, len(session.split)
    shutil.copytree(empty, full)
    history = History(full / "history.sqlite")
    chance = np.random.default_rng(0)
    predictions = np.zeros(n, np.uint16)
    parent: int | None = None
    for recipe in random_live_recipes(settings, seed=3):
        accuracy, size = float(chance.uniform(0.1, 0.93)), int(chance.uniform(3e4, 1e6))
        record = Record(
            recipe.hash, recipe.to_json(), n, accuracy, None, 0.3, 0.9, size, 1_088_744, size, size, 0.9
        )  # fmt: skip
        layers = [{"name": "fc", "bytes": size // 2, "sparsity": 0.5, "bits": 8}]
        identity = history.add(key, record, predictions, parent, layers)
        parent = identity if chance.random() < 0.8 else parent
    history.close()


def open_once(browser: Browser, app: Served, settings: int) -> tuple[float, float]:
    """Open the page; return the seconds until it is interactive, and until the scatter is drawn once asked for."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.set_default_timeout(180_000)  # a busy machine is told by the figures, not by a failure
    start = time.perf_counter()
    page.goto(app.url)
    wait_ready(page)
    seconds = time.perf_counter() - start
    scatter = page.evaluate(SCATTER, settings) / 1e3
    page.close(run_before_unload=True)
    context.close()
    return seconds, scatter


if __name__ == "__main__":
    sys.exit(main())
