from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import traitlets
from torch import nn

from tests.widgets.conftest import move, wait_until
from tests.widgets.fake_session import REASON, TOTAL, FakeSession
from widgets import ControlsView, ScoreboardView, Workbench
from widgets.base.view import View
from workbench.errors import WorkbenchError
from workbench.recipe import Recipe
from workbench.run.onnx_export import export_graph
from workbench.session import Session
from workbench.snapshot import Snapshot


@pytest.mark.parametrize("show", [Workbench, ScoreboardView])
def test_what_is_no_session_is_told_how_to_become_one(show: Any) -> None:
    with pytest.raises(WorkbenchError, match=rf"{show.__name__} shows a Session: open one with Session\(model, data\)"):
        show(nn.Linear(2, 2))


# Scoreboard


def test_scoreboard_shows_size_and_latency_first_then_accuracy_narrowing_to_exact(
    session: FakeSession,
) -> None:
    view = ScoreboardView(session)
    wait_until(view, "size", bool)
    assert view.accuracy is None
    assert view.latency["reason"] == REASON
    seen = []
    view.observe(lambda change: seen.append((change["new"]["n"], change["new"]["kind"])), "accuracy")
    while session.step():
        wait_until(view, "accuracy", lambda figure: figure and figure["n"] == session.snapshot.accuracy.n)
    view.close()
    assert seen == [(n, "sampled") for n in (64, 128, 256, 512, 1024, 2048, 4096)] + [(TOTAL, "exact")]


def test_a_page_shows_sizes_while_a_deep_models_graph_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    written = threading.Event()

    def write(*given: Any) -> Any:
        written.wait(60)
        return export_graph(*given)

    monkeypatch.setattr("workbench.evaluation.export_graph", write)
    monkeypatch.setattr("workbench.engine.DEEP", 1)  # any model is
    with Session("lenet300", "fashion_mnist", history=":memory:") as session:
        page = Workbench(session)
        wait_until(page.scoreboard, "size", bool)
        assert page.scoreboard.latency is None
        assert not session.is_written
        written.set()
        wait_until(page.scoreboard, "latency", bool)
        page.close()


def test_a_figure_keeps_its_own_recipe_until_the_new_one_has_one(session: FakeSession) -> None:
    view = ScoreboardView(session)
    while session.step():
        pass
    wait_until(view, "accuracy", lambda figure: figure and figure["kind"] == "exact")
    recipe = Recipe.parse("- quantize: {bits: 2}")
    session.apply(recipe)
    session.step()
    wait_until(view, "size", lambda figure: figure["recipe"] == recipe.hash)
    assert view.accuracy["recipe"] == Recipe().hash
    assert view.progress["recipe"] == recipe.hash
    view.close()


def test_measuring_puts_the_measured_latency_beside_the_predicted(live: FakeSession) -> None:
    view = ScoreboardView(live)
    wait_until(view, "progress", lambda progress: progress.get("settled"))
    view._handle_custom_msg({"do": "measure"}, [])
    wait_until(view, "latency", lambda figure: figure["measured"])
    wait_until(view, "measuring", lambda measuring: not measuring)
    assert view.latency["kind"] == "predicted"
    assert view.latency["measured"]["value"] == 0.91
    view.close()


def test_a_measurement_that_fails_says_why(live: FakeSession, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise WorkbenchError("The model does not export, so it cannot be timed.")

    monkeypatch.setattr(live, "measure_latency", fail)
    view = ScoreboardView(live)
    view.measure()
    wait_until(view, "problem", bool)
    assert view.problem == "The model does not export, so it cannot be timed."
    view.close()


def test_a_described_device_shows_its_ratio_to_the_baseline(live: FakeSession) -> None:
    view = ScoreboardView(live)
    wait_until(view, "progress", lambda progress: progress.get("settled"))
    assert view.latency["ratio"] is None
    assert {"this-machine", "raspberry-pi-5", "a100-sxm"} <= {entry["name"] for entry in view.devices}
    view._handle_custom_msg({"do": "device", "name": "raspberry-pi-5"}, [])
    wait_until(view, "latency", lambda figure: figure["ratio"])
    assert view.latency["ratio"] == {"value": 0.5, "low": 0.4, "high": 0.65}
    assert view.device == "raspberry-pi-5"
    view._handle_custom_msg({"do": "device", "name": "toaster"}, [])
    assert "There is no device 'toaster'" in view.problem
    assert view.device == "raspberry-pi-5"
    view._handle_custom_msg({"do": "device", "name": "this-machine"}, [])
    wait_until(view, "latency", lambda figure: figure["ratio"] is None)
    assert view.problem == ""
    view.close()


def test_what_a_measurement_came_to_is_not_told_of_the_next_session(
    live: FakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = threading.Event()

    def measure() -> None:
        closed.wait(10)
        raise WorkbenchError("The session is closed.")

    monkeypatch.setattr(live, "measure_latency", measure)
    view = ScoreboardView(live)
    measuring = view.measure()
    assert measuring is not None
    other = FakeSession(auto=False)
    view.attach(other)
    assert not view.measuring
    closed.set()
    measuring.join(10)
    assert view.problem == ""
    view.close()
    other.close()


def test_an_error_of_the_worker_is_shown_as_a_sentence(live: FakeSession) -> None:
    view = ScoreboardView(live)
    wait_until(view, "progress", lambda progress: progress.get("settled"))
    live.fail("The pattern 'x' matches no layer.")
    wait_until(view, "progress", lambda progress: progress["error"])
    assert view.progress["error"] == "The pattern 'x' matches no layer."
    view.close()


# Slow ones


class SlowView(View):
    """Takes its time over the first Snapshot; as those of files and weights do, it draws each once."""

    shown = traitlets.Int(-1)

    def __init__(self, session: FakeSession) -> None:
        self.entered, self.go_on = threading.Event(), threading.Event()
        self._drawn = -1
        super().__init__(session)  # type: ignore[arg-type]

    def begin(self, session: Any) -> None:
        self._drawn = -1

    def draw(self, snapshot: Snapshot) -> None:
        if snapshot.generation == self._drawn:
            return
        self._drawn = snapshot.generation
        if not self.entered.is_set():
            self.entered.set()
            self.go_on.wait(10)
        with self.publishing():
            self.shown = snapshot.generation


def settle(view: SlowView) -> int:
    """Return what the view shows once all that was begun is drawn."""
    view.go_on.set()
    time.sleep(0.2)
    view.close()
    return int(view.shown)


def test_a_view_that_is_seen_again_does_not_go_back_to_what_was_being_drawn(session: FakeSession) -> None:
    view = SlowView(session)
    assert view.entered.wait(10)
    session.apply(Recipe.parse("- prune: {ratio: 0.5}"))
    session.step()
    for visible in (False, True):
        view.set_state({"visible": visible})
    assert settle(view) == session.snapshot.generation


def test_what_was_being_drawn_of_the_session_before_is_not_shown(session: FakeSession) -> None:
    view = SlowView(session)
    assert view.entered.wait(10)
    other = FakeSession(auto=False)
    other.apply(Recipe.parse("- prune: {ratio: 0.5}"))
    other.step()
    view.attach(other)  # type: ignore[arg-type]
    wait_until(view, "shown", lambda generation: generation == other.snapshot.generation)
    assert settle(view) == other.snapshot.generation
    other.close()


# Together


def test_a_move_sends_less_than_eight_kilobytes_until_it_has_settled(live: FakeSession, sent: list[Any]) -> None:
    page = Workbench(live)
    wait_until(page.scoreboard, "progress", lambda progress: progress.get("settled"))
    sizes = []
    for ratio in (10, 35, 60, 85):
        sent.clear()
        move(page.controls, ratio=ratio, bits=4, activations=True)
        wanted = live.recipe.hash
        wait_until(page.scoreboard, "progress", lambda p, h=wanted: p["recipe"] == h and p["settled"])
        wait_until(page.weights, "about", lambda about: about["bits"] == 4)
        # what is foreseen comes once for all moves, some time
        sizes.append(sum(size for data, size in sent if "ahead" not in data.get("state", {})))
    page.close()
    assert max(sizes) < 8_000, sizes
    assert min(sizes) > 500


def test_the_page_is_not_told_its_own_slider_positions(session: FakeSession, sent: list[Any]) -> None:
    view = ControlsView(session)
    sent.clear()
    move(view, ratio=42)
    view.close()
    assert not [data for data, _ in sent if "state" in data.get("state", {})]


def test_several_workbenches_on_several_sessions_do_not_mix() -> None:
    sessions = [FakeSession(auto=False) for _ in range(2)]
    pages = [Workbench(session) for session in sessions]
    move(pages[0].controls, ratio=50)
    assert sessions[0].recipe == Recipe.parse("- prune: {ratio: 0.5}")
    assert sessions[1].recipe == Recipe()
    for page, session in zip(pages, sessions, strict=True):
        page.close()
        session.close()


def test_a_page_that_is_closed_while_it_loads_leaves_no_session_open(monkeypatch: pytest.MonkeyPatch) -> None:
    closed, arrived = threading.Event(), FakeSession(auto=False)

    def load(*_given: Any) -> FakeSession:
        closed.wait(10)
        return arrived

    monkeypatch.setattr("widgets.picker.loading.open_session", load)
    page = Workbench("resnet20", "fashion_mnist")
    page.close()
    closed.set()
    with pytest.raises(RuntimeError, match="No model is loaded"):
        _ = page.session
    assert arrived.closed
    assert all(view.session is None for view in page.views)


def test_closing_the_page_leaves_a_session_it_was_given_alone(live: FakeSession) -> None:
    page = Workbench(live)
    assert page.session is live
    page.close()
    live.apply(Recipe.parse("- quantize: {bits: 4}"))
    assert not live._closed
