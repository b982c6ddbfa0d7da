"""What one slider move brings to the page, with a real Session and the whole Workbench."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from widgets import Workbench
from widgets.base.feed import listen
from widgets.page.workbench import DEPLOY, TABS
from workbench.recipe import Recipe
from workbench.session import Session
from workbench.snapshot import Snapshot

BUDGET = 30_000
#: What Jupyter's protocol wraps every message in (headers, the parent's, metadata), as Chromium receives it.
ENVELOPE = 700


@pytest.fixture(scope="module")
def measured() -> Iterator[Session]:
    with Session("lenet5", "fashion_mnist", history=":memory:") as session:
        session.measure()
        yield session


@pytest.fixture
def page(measured: Session) -> Iterator[Workbench]:
    page = Workbench(measured)
    settle(page, measured.recipe)
    yield page
    page.close()


def move(page: Workbench, **controls: Any) -> Recipe:
    """Do what a slider on the page does, and wait until every view has drawn the exact figures."""
    view = page.controls
    state = {**view.state, **controls, "touched": list(controls), "seq": view.state.get("seq", 0) + 1}
    view.set_state({"state": state})
    settle(page, page.session.recipe)
    return page.session.recipe


def settle(page: Workbench, recipe: Recipe) -> None:
    drawn = []
    with ExitStack() as stack:
        for patience in {view.patience for view in page.views}:
            reached = threading.Event()

            def look(snapshot: Snapshot, reached: threading.Event = reached) -> None:
                if snapshot.settled and snapshot.recipe == recipe:
                    reached.set()

            # listeners that came last are drawn last
            stack.callback(listen(page.session, look, patience))
            drawn.append(reached)
        assert all(reached.wait(60) for reached in drawn)
    for thread in threading.enumerate():
        if thread.name == "workbench-answers":
            thread.join(10)


def weight(sent: list[Any]) -> int:
    return sum(size + ENVELOPE for _, size in sent)


@pytest.mark.parametrize("tab", [*TABS, *DEPLOY])
def test_a_move_stays_within_the_budget_whichever_tab_is_open(page: Workbench, sent: list[Any], tab: str) -> None:
    for name, panel in page.panels.items():
        panel.set_state({"visible": name == tab})
    move(page, ratio=20)
    spent = []
    for controls in ({"ratio": 60.0 + len(tab)}, {"bits": 4}, {"ratio": 35.0 + len(tab), "granularity": "filter"}):
        sent.clear()
        recipe = move(page, **controls)
        assert page.scoreboard.accuracy["recipe"] == recipe.hash
        spent.append(weight(sent))
    move(page, ratio=0, bits=32, granularity="weight")
    assert max(spent) <= BUDGET
    assert min(spent) > 3 * ENVELOPE


def test_a_drag_sends_each_size_once_at_most(page: Workbench, sent: list[Any]) -> None:
    """Snapshots that a newer move replaced before they were drawn are not sent."""
    move(page, ratio=10)
    sent.clear()
    view = page.controls
    for ratio in range(11, 41):
        view.set_state({"state": {**view.state, "ratio": ratio, "touched": ["ratio"], "seq": 100 + ratio}})
    settle(page, page.session.recipe)
    shown = [data["state"]["size"]["recipe"] for data, _ in sent if "size" in data.get("state", {})]
    move(page, ratio=0)
    assert shown
    assert len(shown) == len(set(shown)) <= 30
