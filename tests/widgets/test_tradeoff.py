"""The trade-off view: every setting tried, each sent once, and a way back to each."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from tests.widgets.conftest import wait_until
from tests.widgets.fake_session import DENSE, TOTAL, FakeSession
from widgets.tradeoff.view import COLUMNS, KINDS, METRICS, REPEATED, TradeoffView
from workbench.errors import WorkbenchError
from workbench.history import Record
from workbench.recipe import Recipe

Rows = list[dict[str, float]]


def rows(packed: bytes) -> Rows:
    table = np.frombuffer(packed, np.float32).reshape(-1, len(COLUMNS)).tolist()
    return [dict(zip(COLUMNS, row, strict=True)) for row in table]


def told(view: TradeoffView) -> dict[str, dict[str, float]]:
    """Return what a page knows that saw every message, by the settings' words."""
    known = dict(zip(view.words.decode().split("\n"), rows(view.points), strict=False))
    known |= dict(zip(view.added_words.decode().split("\n"), rows(view.added), strict=False))
    return known


def settle(view: TradeoffView, session: FakeSession, recipe: str = "") -> None:
    if recipe:
        session.apply(Recipe.parse(recipe))
    while session.step():
        pass
    place = view._trials.place
    wait_until(view, "present", lambda packed: packed and rows(packed)[0]["n"] == TOTAL)
    wait_until(view, "present", lambda packed: rows(packed)[0]["place"] == place(session.recipe.hash) >= 0)


def look(view: TradeoffView, session: FakeSession, recipe: str, looks: int) -> None:
    """Let ``recipe`` come as far as its first sampled looks."""
    session.apply(Recipe.parse(recipe))
    for _ in range(looks + 1):
        session.step()
    wanted = session.snapshot.accuracy.n if looks else 0
    wait_until(view, "present", lambda packed: packed and rows(packed)[0]["n"] == wanted)


def remember(session: FakeSession, count: int) -> None:
    """Put settings into the history, as earlier sessions did."""
    for index in range(count):
        recipe = Recipe.parse(f"- prune: {{ratio: {(index + 1) / (count + 1):.5f}}}")
        record = Record(
            recipe.hash, recipe.to_json(), TOTAL, 0.9, None, 0.3, 0.95, DENSE - index, DENSE, None, None, 0.9
        )
        session.history.add(session.key, record, np.zeros(TOTAL, int), None)


@pytest.fixture
def view(session: FakeSession) -> Any:
    view = TradeoffView(session)
    settle(view, session)
    yield view
    view.close()


def sizes(sent: list[tuple[dict[str, Any], int]]) -> list[int]:
    return [size for _, size in sent]


def test_settings_of_earlier_sessions_are_there_from_the_start(session: FakeSession) -> None:
    remember(session, 3)
    view = TradeoffView(session)
    settle(view, session)
    known = told(view)
    view.close()
    assert set(known) == {"25 % pruned", "50 % pruned", "75 % pruned", "dense"}
    assert [known[name]["mine"] for name in ("50 % pruned", "dense")] == [0, 1]
    assert known["25 % pruned"]["bytes"] == DENSE
    assert known["25 % pruned"]["ms"] == pytest.approx(0.9)
    assert np.isnan(known["25 % pruned"]["ms_low"])
    assert known["dense"]["ms_low"] == pytest.approx(0.9)


def test_the_present_setting_narrows_and_then_joins_as_exact(view: TradeoffView, session: FakeSession) -> None:
    widths = []
    for looks in (1, 3):
        look(view, session, "- prune: {ratio: 0.6}\n- quantize: {bits: 4}", looks)
        present = rows(view.present)[0]
        assert KINDS[int(present["kind"])] == "sampled"
        widths.append(present["high"] - present["low"])
    assert widths[0] > widths[1] > 0
    assert "60 % pruned · 4 bit" not in told(view)
    settle(view, session)
    exact = told(view)["60 % pruned · 4 bit"]
    assert KINDS[int(exact["kind"])] == "exact"
    assert exact["low"] == exact["high"] == exact["score"]
    assert view.present_words == "60 % pruned · 4 bit"


def test_a_setting_left_while_sampled_stays_until_it_is_measured(view: TradeoffView, session: FakeSession) -> None:
    look(view, session, "- quantize: {bits: 3}", 2)
    look(view, session, "- quantize: {bits: 5}", 0)
    wait_until(view, "added", bool)
    left = told(view)["3 bit"]
    assert KINDS[int(left["kind"])] == "sampled"
    assert left["low"] < left["score"] < left["high"]
    assert left["n"] == 128
    settle(view, session, "- quantize: {bits: 3}")
    again = told(view)["3 bit"]
    assert again["place"] == left["place"]
    assert KINDS[int(again["kind"])] == "exact"


def test_sampled_figures_never_replace_exact_ones(view: TradeoffView, session: FakeSession) -> None:
    settle(view, session, "- quantize: {bits: 4}")
    look(view, session, "- quantize: {bits: 4}", 1)
    settle(view, session, "- quantize: {bits: 6}")
    assert KINDS[int(told(view)["4 bit"]["kind"])] == "exact"


def test_settings_tried_while_nobody_looks_are_not_lost(session: FakeSession, sent: list[Any]) -> None:
    view = TradeoffView(session, visible=False)
    while session.step():
        pass
    session.apply(Recipe.parse("- quantize: {bits: 3}"))
    for _ in range(3):
        session.step()
    session.apply(Recipe.parse("- quantize: {bits: 5}"))
    sent.clear()
    while session.step():
        pass
    assert sent == []
    view.set_state({"visible": True})
    wait_until(view, "points", len)
    assert set(told(view)) == {"dense", "3 bit", "5 bit"}
    view.close()


def test_all_settings_are_sent_once_and_then_only_what_is_new(session: FakeSession, sent: list[Any]) -> None:
    remember(session, 2_000)
    view = TradeoffView(session)
    settle(view, session)
    assert sum(sizes(sent)) > 2_000 * 4 * len(COLUMNS)
    moves = []
    for bits in (2, 3, 4, 5):
        sent.clear()
        settle(view, session, f"- prune: {{ratio: 0.123}}\n- quantize: {{bits: {bits}}}")
        moves.append(sum(sizes(sent)))
    view.close()
    assert max(moves) < 8_000, moves


def test_a_page_that_missed_messages_can_ask_for_everything(view: TradeoffView, session: FakeSession) -> None:
    for step in range(REPEATED + 4):
        settle(view, session, f"- prune: {{ratio: {0.3 + step / 100:.2f}}}")
    assert view.added_from > view.upto  # a page that has only `points` sees the gap
    assert len(rows(view.added)) <= REPEATED
    view._handle_custom_msg({"do": "all"}, [])
    assert view.added_from == view.added_upto == view.upto
    places = [row["place"] for row in rows(view.points)]
    assert places == list(range(REPEATED + 5))


def test_going_back_sets_the_whole_recipe_of_that_setting(view: TradeoffView, session: FakeSession) -> None:
    wanted = "- prune: {ratio: 0.5, overrides: {fc: {ratio: 0.1}}}\n- quantize: {bits: 4}"
    settle(view, session, wanted)
    place = int(rows(view.present)[0]["place"])
    settle(view, session, "- quantize: {bits: 8}")
    view._handle_custom_msg({"do": "go", "place": place, "edition": view.edition}, [])
    assert session.recipe == Recipe.parse(wanted)
    for nonsense in ({"place": 99}, {"place": -1}, {"place": 0, "edition": view.edition - 1}):
        view._handle_custom_msg({"do": "go", "edition": view.edition, **nonsense}, [])
        assert session.recipe == Recipe.parse(wanted)


def test_going_back_in_a_session_that_ended_says_so(
    view: TradeoffView, session: FakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Recipe) -> int:
        raise WorkbenchError("This session is closed; open a new one.")

    with monkeypatch.context() as patch:
        patch.setattr(session, "apply", refuse)
        view._handle_custom_msg({"do": "go", "place": 0, "edition": view.edition}, [])
    assert view.problem == "This session is closed; open a new one."
    view._handle_custom_msg({"do": "go", "place": 0, "edition": view.edition}, [])
    assert view.problem == ""


def test_undo_works_from_the_view_alone(view: TradeoffView, session: FakeSession) -> None:
    settle(view, session, "- quantize: {bits: 8}")
    settle(view, session, "- quantize: {bits: 4}")
    view._handle_custom_msg({"do": "undo"}, [])
    assert session.recipe == Recipe.parse("- quantize: {bits: 8}")


def test_another_session_brings_its_own_settings(view: TradeoffView, session: FakeSession) -> None:
    settle(view, session, "- quantize: {bits: 4}")
    edition = view.edition
    other = FakeSession(auto=False)
    view.attach(other)
    settle(view, other)
    assert set(told(view)) == {"dense"}
    assert view.edition > edition
    other.close()


@pytest.mark.parametrize("x", METRICS)
@pytest.mark.parametrize("y", METRICS)
def test_the_figure_draws_settings_front_and_dense_model(
    view: TradeoffView, session: FakeSession, x: str, y: str
) -> None:
    look(view, session, "- quantize: {bits: 3}", 2)
    for bits in (8, 4):
        settle(view, session, f"- prune: {{ratio: 0.4}}\n- quantize: {{bits: {bits}}}")
    view.x, view.y = x, y
    axes = view.figure().axes[0]
    drawn = {line.get_label(): line.get_xdata() for line in axes.get_lines()}
    assert len(drawn["measured"]) == 3
    assert len(drawn["dense"]) == len(drawn["present"]) == 1
    assert len(axes.containers) == 1
    if x != y:
        assert 1 <= len(drawn["Pareto front"]) <= 3
    assert "(" in axes.get_xlabel()


def test_the_figure_leaves_out_other_sessions_where_the_page_does(session: FakeSession) -> None:
    remember(session, 4)
    view = TradeoffView(session)
    settle(view, session)

    def measured() -> int:
        return len(
            next(line for line in view.figure().axes[0].get_lines() if line.get_label() == "measured").get_xdata()
        )

    assert measured() == 5
    view.scope = "session"
    assert measured() == 1
    view.close()


def say(view: TradeoffView, **content: Any) -> None:
    """Send what the page would, and wait until it is done."""
    view._handle_custom_msg({"edition": view.edition, **content}, [])
    view._errands.run("end", lambda: None).join()


def test_what_is_wrong_with_the_history_is_said_over_the_plot(session: FakeSession) -> None:
    session.history_notes = ("The history file was damaged and moved.", "And more.")
    view = TradeoffView(session)
    assert view.notice == "The history file was damaged and moved. And more."
    view.close()


def test_settings_are_named_and_starred_in_the_history_and_on_the_page(
    view: TradeoffView, session: FakeSession
) -> None:
    settle(view, session, "- quantize: {bits: 4}")
    place = int(rows(view.present)[0]["place"])
    say(view, do="name", places=[place], name="  the   good one ")
    say(view, do="star", places=[place], starred=True)
    assert told(view)["the good one\t4 bit"]["starred"] == 1
    record = session.history.find(session.key, session.recipe.hash)
    assert record is not None
    assert (record.name, record.starred) == ("the good one", True)
    view.scope = "starred"
    assert len(view.figure().axes[0].get_lines()[0].get_xdata()) == 1


def test_deleted_settings_leave_the_history_until_they_are_restored(view: TradeoffView, session: FakeSession) -> None:
    for bits in (8, 4):
        settle(view, session, f"- quantize: {{bits: {bits}}}")
    gone = view._trials.place(Recipe.parse("- quantize: {bits: 8}").hash)
    dense = view._trials.place(Recipe().hash)
    say(view, do="delete", places=[gone, dense, int(rows(view.present)[0]["place"])])
    assert view.deleted == [gone]
    assert told(view)["8 bit"]["deleted"] == 1
    assert {record.recipe_hash for record in session.records()} == {session.recipe.hash, Recipe().hash}
    say(view, do="restore")
    assert view.deleted == []
    assert told(view)["8 bit"]["deleted"] == 0
    assert len(session.records()) == 3
    say(view, do="delete", places=[dense])
    assert view.problem.startswith("The present setting and the dense model cannot be deleted")


def test_chosen_settings_are_compared_side_by_side(view: TradeoffView, session: FakeSession) -> None:
    for bits in (8, 4):
        settle(view, session, f"- prune: {{ratio: 0.5}}\n- quantize: {{bits: {bits}}}")
    places = [view._trials.place(Recipe().hash) + shift for shift in (1, 2)]
    say(view, do="compare", places=places)
    found = view.comparison
    assert [one["words"] for one in found["settings"]] == ["50 % pruned · 8 bit", "50 % pruned · 4 bit"]
    assert found["differences"] == [[], ["quantize: bits 8 → 4"]]
    assert found["settings"][0]["bytes"] > found["settings"][1]["bytes"]
    say(view, do="compare", places=places[:1])
    assert "Choose two to 6 settings" in view.problem
    say(view, do="compare", places=[])
    assert view.comparison == {}


def test_settings_and_plot_go_to_the_page_as_files(
    view: TradeoffView, session: FakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(view, session, "- quantize: {bits: 4}")
    files: dict[str, bytes] = {}
    monkeypatch.setattr(view, "send", lambda content, buffers=(): files.update({content["name"]: bytes(buffers[0])}))
    say(view, do="csv", places=[0, 1])
    header, *lines = files["settings.csv"].decode().splitlines()
    assert header.startswith("id,parent,name,starred,time,model")
    assert len(lines) == 2
    for suffix, start in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        say(view, do="plot", format=suffix)
        assert files[f"tradeoff.{suffix}"].startswith(start)


def test_a_history_read_ahead_is_packed_before_anyone_looks(
    session: FakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("widgets.tradeoff.view.AHEAD_S", 0.0)
    remember(session, 30)
    view = TradeoffView(session, visible=False)
    deadline = time.monotonic() + 30
    while view._packed is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert view._packed is not None
    _, points, words = view._packed
    session.apply(Recipe.parse("- quantize: {bits: 3}"))
    while session.step():
        pass
    view.set_state({"visible": True})
    wait_until(view, "points", lambda packed: bool(packed))
    assert view.points == points
    assert "3 bit" not in words.decode()
    assert told(view).keys() - set(words.decode().split("\n")) == {"3 bit"}
    view.close()
