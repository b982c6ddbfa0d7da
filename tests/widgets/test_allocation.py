"""Find the best: the view starts a search, shows its answers, and sets the one that is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

import workbench as wb
from tests.widgets.conftest import wait_until
from widgets import AllocationView
from widgets.allocation.view import KINDS, TECHNIQUES, kinds
from widgets.base.marks import marks_of
from workbench.recipe import Recipe
from workbench.search.methods import METHODS, USUAL
from workbench.search.searches import searches_of
from workbench.session import Session


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    data = wb.load_dataset("fashion_mnist")
    few = {name: data[name].take(torch.arange(256)) for name in data.splits}
    with Session("lenet300", replace(data, splits=few), history=":memory:") as opened:
        opened.measure()
        yield opened


@pytest.fixture
def view(session: Session, monkeypatch: pytest.MonkeyPatch) -> Iterator[AllocationView]:
    monkeypatch.setattr("workbench.search.job.repairs_for", lambda *_: ())  # they take longer than all the rest
    session.measure("[]")
    view = AllocationView(session)
    yield view
    view.close()


def ask(view: Any, **content: Any) -> None:
    view._handle_custom_msg(content, [])


def test_an_answer_is_shown_and_set_by_one_click_and_undone(view: AllocationView, session: Session) -> None:
    wait_until(view, "dense", bool)
    ask(view, do="start", kind="bytes", amount=50, techniques=["quantize"])
    wait_until(view, "progress", lambda progress: progress.get("state") == "done", seconds=90)
    assert [row["by"] for row in view.answers] == ["exact", "greedy", "uniform"]
    best = view.answers[0]
    assert best["bytes"] <= 50_000
    assert best["foreseen"][1] <= best["foreseen"][0] <= best["foreseen"][2]
    assert best["test"] is not None
    assert view.about["done"]
    ask(view, do="apply", by="exact")
    assert session.recipe.hash == best["hash"]
    assert session.measure().size.bytes == best["bytes"]
    wait_until(view, "applied", lambda applied: applied == best["hash"])
    session.undo()
    assert session.recipe == Recipe()
    assert view.figure().axes


def test_a_point_of_the_front_is_told_and_set_by_one_click(
    view: AllocationView, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("widgets.allocation.view.TRIALS", 8)
    ask(view, do="evolve", techniques=["quantize"])
    wait_until(view, "evolving", lambda evolving: evolving.get("state") == "done", seconds=90)
    sizes = [point["bytes"] for point in view.front]
    assert len(sizes) > 2
    assert sizes == sorted(sizes)
    point = view.front[0]
    assert "bit" in point["words"]
    ask(view, do="take", hash=point["hash"])
    assert session.recipe.hash == point["hash"]
    assert session.measure().size.bytes == point["bytes"]
    wait_until(view, "applied", lambda applied: applied == point["hash"])
    session.undo()
    ask(view, do="evolve", techniques=["nothing"])
    wait_until(view, "evolving", lambda evolving: evolving.get("state") == "failed", seconds=30)
    assert "no technique 'nothing'" in view.evolving["error"]


def test_what_cannot_be_met_is_said_and_the_locks_are_counted(view: AllocationView, session: Session) -> None:
    marks_of(session).lock(["fc1"])
    try:
        wait_until(view, "locked", lambda locked: locked == 1)
        ask(view, do="start", kind="bytes", amount=50, techniques=["quantize"])
        wait_until(view, "progress", lambda progress: progress.get("state") == "failed", seconds=60)
        assert "with fc1 locked" in view.progress["error"]
    finally:
        marks_of(session).lock(["fc1"], locked=False)
    ask(view, do="start", kind="bytes", amount=-1, techniques=["quantize"])
    assert "should be above 0" in view.problem
    assert not searches_of(session).running


def test_a_search_that_is_cancelled_ends(view: AllocationView, session: Session) -> None:
    ask(view, do="start", kind="bytes", amount=40, techniques=["prune", "quantize"])
    ask(view, do="cancel")
    wait_until(view, "progress", lambda progress: progress.get("state") in ("cancelled", "done"), seconds=60)
    assert not searches_of(session).running


def test_a_view_made_later_shows_what_was_found(view: AllocationView, session: Session) -> None:
    later = AllocationView(session)
    assert later.answers == view.answers
    assert later.progress["state"] == view.progress["state"]
    later.close()


def test_every_budget_and_technique_of_the_engine_is_offered() -> None:
    assert KINDS.keys() == USUAL.keys()
    assert TECHNIQUES.keys() == METHODS.keys()
    for kind in kinds():
        assert set(kind["usual"]) <= set(kind["able"])
