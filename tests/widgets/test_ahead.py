"""The page is told the figures where the sliders may go next, each with the recipe that it is of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.widgets.conftest import move, wait_until
from tests.widgets.fake_session import FakeSession
from widgets import ControlsView, ScoreboardView
from widgets.base.marks import marks_of
from widgets.controls.ahead import ENTRY, RATIOS, Ahead
from widgets.controls.state import BITS, ControlsState
from workbench.editing import with_layer
from workbench.recipe import Recipe


def told(view: ControlsView) -> dict[tuple[int, int], tuple[int, str, float]]:
    """Return ratio in per cent and bits → bytes, the recipe's hash and the accuracy, as the page reads them."""
    entries = ENTRY.iter_unpack(view.ahead["entries"])
    return {
        (ratio, BITS[place]): (size, recipe.hex(), value / 1e6)
        for ratio, place, _, size, _, _, recipe, value, *_ in entries
    }


EVERY = len(RATIOS) * len(BITS)


def wait_told(view: ControlsView, session: FakeSession) -> dict[tuple[int, int], tuple[int, str, float]]:
    """Return what a page that opens hears, once that is all there is."""
    assert session.has_looked.wait(10)
    view.receive({"do": "ahead"}, [])
    assert len(view.ahead["entries"]) == ENTRY.size * EVERY
    return told(view)


def test_each_position_has_the_figures_of_the_recipe_that_the_controls_would_set(session: FakeSession) -> None:
    view = ControlsView(session)
    found = wait_told(view, session)
    for ratio, bits in ((30, 32), (0, 4), (95, 1), (55, 16)):
        move(view, ratio=ratio, bits=bits)
        foreseen = session.foreseen(session.recipe)
        assert found[ratio, bits] == (foreseen.size.bytes, session.recipe.hash, round(foreseen.score.value, 6))
    assert view.ahead["accuracy"]["kind"] == "sampled"
    assert view.ahead["session"] == marks_of(session).name
    view.close()


def test_nothing_is_told_twice_unless_a_page_asks(session: FakeSession) -> None:
    heard: list[int] = []
    view = ControlsView()
    view.observe(lambda change: heard.append(len(change["new"].get("entries", "")) // ENTRY.size), "ahead")
    view.attach(session)
    wait_until(view, "ahead", lambda _: sum(heard) >= EVERY)
    view.close()
    assert sum(heard) == EVERY
    assert max(heard) < EVERY / 3


def test_an_accuracy_found_after_the_size_is_told(session: FakeSession) -> None:
    heard: list[dict[str, Any]] = []
    Ahead(session, session.recipe, ControlsState(), heard.append).begin()
    recipe, whole = next(iter(session.ahead.items()))
    session.ahead[recipe] = replace(whole, score=None)
    ahead = Ahead(session, session.recipe, ControlsState(), heard.append)
    session.look_ahead = lambda groups, told: [list(group()) for group in groups] and told()  # finds nothing more
    ahead.begin()
    heard.clear()
    session.ahead[recipe] = whole
    ahead.begin()
    (told_again,) = heard
    (entry,) = ENTRY.iter_unpack(told_again["entries"])
    assert (entry[6].hex(), entry[2]) == (recipe, whole.score.n)


def test_moves_of_the_two_sliders_tell_nothing_again(session: FakeSession) -> None:
    view = ControlsView(session)
    wait_told(view, session)
    changes: list[object] = []
    view.observe(changes.append, "ahead")
    witness = ScoreboardView(session)  # drawn after the controls, by the same thread
    move(view, ratio=40)
    session.step()
    move(view, bits=3)
    session.step()
    wait_until(witness, "progress", lambda progress: progress.get("recipe") == session.recipe.hash)
    assert not changes
    view.close()
    witness.close()


def test_what_else_is_set_is_foreseen_anew(session: FakeSession) -> None:
    view = ControlsView(session)
    dense = wait_told(view, session)
    session.has_looked.clear()
    session.apply(with_layer(Recipe.parse("- prune: {ratio: 0.3}"), "prune", ["fc"], 0.9))
    session.step()
    wait_until(view, "note", lambda note: "settings of its own" in note)
    found = wait_told(view, session)
    assert found[30, 32][1] == session.recipe.hash
    assert found[50, 4][1] != dense[50, 4][1]
    view.close()


def test_what_learns_from_data_is_not_foreseen(session: FakeSession) -> None:
    session.apply(Recipe.parse("- prune: {ratio: 0.3}\n- recalibrate: {}"))
    view = ControlsView(session)
    session.step()
    wait_until(view, "follow", lambda follow: follow.get("recalibrate", False))
    assert not view.ahead
    view.close()
