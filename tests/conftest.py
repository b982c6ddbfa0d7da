"""What every test shares: quick tests first, examples that repeat, a home of its own, and the browser."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.chromium import MISSING, find_chromium, in_ci

# Read when torch is first imported: spinning threads make everything slow on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# The same examples every time, and no deadline: a busy machine is not a bug.
settings.register_profile("house", deadline=None, derandomize=True)
settings.load_profile("house")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the quick tests first, then the browser's, then the slow ones.

    Finding ShuffleNetV2's channels takes 10 s each time: by default only the tests of pruning do it.
    """
    for item in items:
        if "shufflenetv2" in item.name and "filter" in item.name and item.path.parent.name != "prune":
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: (item.get_closest_marker("slow") is not None, "browser" in item.keywords))


@pytest.fixture(autouse=True, scope="session")
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the tests out of the person's history and fetched data."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="session")
def chromium() -> Path:
    """Return the path of a Chromium, for ``playwright.chromium.launch(executable_path=...)``."""
    found = find_chromium()
    if found is None:
        if in_ci():
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    return found
