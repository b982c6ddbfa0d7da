"""From a slider moved in the browser to the size, and to the first sampled accuracy, on the page.

The page itself keeps the time: from the slider's `input` event to the frame after the figure changed. First on a page
just opened on a model that nobody has left alone yet, then once it was left alone until the sizes at the sliders'
positions were foreseen.
Measured in the served app and, beside it, in JupyterLab, one after the other. Then what a move brings to
the page until its figures have settled, with each of the tabs open.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from tests.bench.moves import Sent, Traffic, move, percentile, sent_line, time_line, wait_foreseen, weigh
from tests.browser.lab import open_notebook, run_cell
from tests.browser.launch import CHROMIUM, ROOT, serve_app, serve_lab
from tests.browser.reading import wait_ready
from tests.chromium import MISSING, find_chromium

MOVES = 60
SIZE_MS, ACCURACY_MS, SENT_BYTES = 60, 180, 30_000
#: Moves weighed with the first tab open, and with each of the others.
WEIGHED, WEIGHED_OTHERS = 4, 2
VIEWPORT: Any = {"width": 1440, "height": 900}

OpenPage = Callable[[Page, str], None]


@dataclass(frozen=True)
class Measured:
    """Milliseconds of every move, and by open tab what moves brought to the page."""

    home: str
    size: list[float]
    accuracy: list[float]
    foreseen: list[float]
    accuracy_after: list[float]
    sent: dict[str, list[Sent]] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        sizes, accuracies = (self.size, self.foreseen), (self.accuracy, self.accuracy_after)
        slow = any(percentile(times, 95) > SIZE_MS for times in sizes)
        slow = slow or any(percentile(times, 95) > ACCURACY_MS for times in accuracies)
        return not slow and all(entry.bytes <= SENT_BYTES for tab in self.sent.values() for entry in tab)

    def __str__(self) -> str:
        lines = [
            f"{self.home}, {len(self.size)} moves",
            time_line("slider to size", self.size, SIZE_MS),
            time_line("slider to sampled accuracy", self.accuracy, ACCURACY_MS),
            time_line("to size, foreseen", self.foreseen, SIZE_MS),
            time_line("to accuracy, then", self.accuracy_after, ACCURACY_MS),
        ]
        lines += [sent_line(f"a move sends, tab {tab}", sent, SENT_BYTES) for tab, sent in self.sent.items()]
        return "\n".join(lines)


def measure(home: str, browser: Browser, url: str, open_page: OpenPage, tabs: int) -> Measured:
    """Open the page and move its sliders; then weigh moves with the first ``tabs`` tabs open, in a page of their own.

    Whoever counts what comes to a page gets a copy of it, which takes the processor from what is timed.
    """
    page = browser.new_page(viewport=VIEWPORT)
    open_page(page, url)
    wait_ready(page)
    move(page, 5, "size", "accuracy")
    size, accuracy = move(page, MOVES, "size", "accuracy")
    wait_foreseen(page)
    foreseen, after = move(page, MOVES, "size", "accuracy", first=MOVES)
    page.close(run_before_unload=True)
    page = browser.new_page(viewport=VIEWPORT)
    traffic = Traffic(page)
    open_page(page, url)
    wait_ready(page)
    wait_foreseen(page)  # what is foreseen comes once for all moves
    sent = _weigh_tabs(page, traffic, tabs)
    page.close(run_before_unload=True)
    return Measured(home, size, accuracy, foreseen, after, sent)


def _weigh_tabs(page: Page, traffic: Traffic, tabs: int) -> dict[str, list[Sent]]:
    sent: dict[str, list[Sent]] = {}
    first = MOVES
    for tab in page.locator(".wb-tabs [role=tab]").all()[:tabs]:
        tab.click()
        count = WEIGHED_OTHERS if sent else WEIGHED
        weigh(page, traffic, 1, first=first)  # opening a tab brings what it had missed
        sent[tab.inner_text()] = weigh(page, traffic, count, first=first + 1)
        first += count + 1
    return sent


def open_app(page: Page, url: str) -> None:
    page.goto(url)


def open_lab(page: Page, url: str) -> None:
    open_notebook(page, url)
    run_cell(page, 0)


def learn_kernels(home: Path) -> None:
    """Measure this machine's kernels first, as has happened wherever the app ran for a minute."""
    code = """
from workbench.session import Session
with Session("resnet20", "fashion_mnist") as session:
    session.learn_latency()
"""
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "WORKBENCH_HOME": str(home)}, cwd=ROOT, check=True)


def main() -> int:
    chromium = find_chromium()
    if chromium is None:
        print(MISSING)
        return 1
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        home = Path(folder)
        notebook = home / "notebooks" / "app.ipynb"
        notebook.parent.mkdir()
        notebook.write_bytes((ROOT / "notebooks" / "app.ipynb").read_bytes())
        learn_kernels(home)
        browser = playwright.chromium.launch(executable_path=chromium, args=list(CHROMIUM))
        with serve_app(home, "--pool", "0") as app:
            voila = measure("Voila", browser, app.url, open_app, tabs=99)
        print(voila, flush=True)
        for file in home.glob("foreseen.sqlite*"):  # JupyterLab begins with nothing foreseen, too
            file.unlink()
        with serve_lab(home, notebook) as lab:
            jupyter = measure("JupyterLab", browser, lab.url, open_lab, tabs=1)
        print(jupyter, flush=True)
        browser.close()
    return 0 if voila.passed and jupyter.passed else 1


if __name__ == "__main__":
    sys.exit(main())
