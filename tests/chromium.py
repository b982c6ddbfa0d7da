"""Find a Chromium for the browser tests, or get one; ``make test`` runs this first.

In order: the system's own, one Playwright fetched earlier, the distribution's package where we may
install it, Playwright's download. Where none can be had the browser tests are skipped and it is said
loudly; where ``CI`` is set that is a failure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING = (
    "No Chromium was found and none could be installed, so the browser tests can't run "
    "(skipped here, a failure where CI is set). Install one, on Debian with apt-get install chromium."
)


def find_chromium() -> Path | None:
    """Return a Chromium that can be started, the system's own first."""
    for name in NAMES:
        found = shutil.which(name)
        if found:
            return Path(found)
    return _find_playwrights()


def provide_chromium() -> Path | None:
    """Return a Chromium, installing one where that is possible."""
    found = find_chromium()
    for command in () if found else _ways_to_install():
        print(f"No Chromium yet: {' '.join(command)}", flush=True)
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
        found = find_chromium()
        if found:
            break
    return found


def in_ci() -> bool:
    """Return whether a missing browser is a failure rather than a skip."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def _find_playwrights() -> Path | None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = Path(playwright.chromium.executable_path)
    return path if path.exists() else None


def _ways_to_install() -> list[list[str]]:
    playwright = [sys.executable, "-m", "playwright", "install", "chromium"]
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return [playwright]
    apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=60"]
    return [[*apt, "update"], [*apt, "install", "-y", "--no-install-recommends", "chromium"], playwright]


if __name__ == "__main__":
    if provide_chromium() is None:
        banner = "!" * 100
        print(f"\n{banner}\n{MISSING}\n{banner}\n", file=sys.stderr)
        sys.exit(1 if in_ci() else 0)
