"""A real Chromium in front of the served app."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.launch import CHROMIUM, Served, serve_app
from tests.browser.reading import WATCH, clear_watch, wait_ready


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def app(chromium: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve_app(tmp_path_factory.mktemp("app")) as served:
        yield served


@pytest.fixture(scope="session")
def browser(chromium: Path) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(CHROMIUM))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def shared(browser: Browser, app: Served) -> Iterator[Page]:
    """Open the app in a window of 1440 × 900, once for all tests: a page costs a kernel."""
    with open_page(browser, app) as page:
        yield page


@pytest.fixture
def page(shared: Page) -> Page:
    """Return the open page with every control back where it began."""
    shared.get_by_role("button", name="Reset").click()
    wait_ready(shared)
    clear_watch(shared)
    return shared


@contextmanager
def open_page(browser: Browser, app: Served, **options: Any) -> Iterator[Page]:
    """Open the app in a page of its own and close it as a person would."""
    context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **options})
    page = context.new_page()
    page.asked = []  # type: ignore[attr-defined]
    page.on("request", lambda request: page.asked.append(request.url))  # type: ignore[attr-defined]
    page.add_init_script(WATCH)
    page.goto(app.url, timeout=120_000)  # on a machine with other work, too
    wait_ready(page)
    yield page
    page.close(run_before_unload=True)
    context.close()
