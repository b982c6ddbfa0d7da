"""The kernel behind a page of the served app."""

from __future__ import annotations

import contextlib

import psutil
from playwright.sync_api import Page

from tests.browser.launch import Served


def kernel_id(page: Page) -> str:
    return str(page.evaluate("JSON.parse(document.getElementById('jupyter-config-data').textContent).kernelId"))


def kernel_process(served: Served, kernel: str) -> psutil.Process:
    """Return the process of the kernel with this id; one that has ended is an ``AssertionError``."""
    for child in psutil.Process(served.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if any(kernel in part for part in child.cmdline()):
                return child
    raise AssertionError(f"no process runs kernel {kernel}")
