"""The Sensitivity view shows the Session's sweep as it comes, and sets a layer from a cell."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tests.widgets.conftest import wait_until
from tests.widgets.fake_session import LAYERS, TOTAL, FakeSession
from widgets.base.marks import marks_of
from widgets.layers.view import LayersView
from widgets.sensitivity.metrics import METRICS
from widgets.sensitivity.view import SensitivityView
from workbench.analyze.finding import Mode
from workbench.analyze.sensitivity import Question, Sensitivity
from workbench.analyze.studies import Studies, points_lost, studies_of
from workbench.errors import WorkbenchError
from workbench.jobs import Progress
from workbench.measure.estimate import Estimate
from workbench.measure.shares import Interval
from workbench.recipe import Recipe
from workbench.techniques import TECHNIQUES

NAMES = tuple(layer.name for layer in LAYERS)


class FakeSweep:
    """A sweep that a test steps by hand; put in the place of ``measure_sensitivity``."""

    trouble = ""

    def __init__(
        self, session: Any, technique: str, *, tolerance: float | None = None, mode: Mode = "only", keep: bool = False
    ) -> None:
        assert keep
        dial = TECHNIQUES[technique].dial
        assert dial is not None
        self.session, self.tolerance = session, tolerance
        question = Question(technique, dial.setting, dial.levels, NAMES, mode=mode)
        self.blank = Sensitivity.unknown(question, Estimate.exact(0.93, TOTAL, "test"))
        self.latest: Sensitivity | None = None
        self.progress = Progress("running", 0, 1, 0.0, None)
        self.cancelled = False
        self._listeners: list[Callable[[Progress], None]] = []

    def subscribe(self, listener: Callable[[Progress], None]) -> None:
        self._listeners.append(listener)

    def cancel(self) -> None:
        self.cancelled = True

    def step(self, n: int, share: float, state: Any = "running") -> None:
        """Measure every cell on ``n`` images: each level loses as many points as its column's number."""
        lost = np.tile(np.arange(len(self.blank.levels)) / 100, (len(NAMES), 1))
        value, half = 0.93 - lost, 0.2 / n**0.5 if n < TOTAL else 0.0
        figures = {"value": value, "low": value - half, "high": value + half, "n": np.full(value.shape, n)}
        grown = {
            name: 0.1 + factor * lost for name, factor in (("agreement", -1), ("loss", 3), ("kl", 2), ("logit_mse", 9))
        }
        measured = {name: Interval(mean, mean - half, mean + half) for name, mean in grown.items()}
        figures |= {"measured": measured, "loss": 0.2, "power": 40.0}
        self.latest = dataclasses.replace(self.blank, **figures)
        self.tell(share, state)

    def tell(self, share: float, state: Any = "running", error: str = "") -> None:
        self.progress = Progress(state, share, 1, 10 * share, 10 * (1 - share), error)
        for listener in self._listeners:
            listener(self.progress)


@pytest.fixture(autouse=True)
def sweeps(monkeypatch: pytest.MonkeyPatch) -> list[FakeSweep]:
    """Return the sweeps started since the test began."""
    started: list[FakeSweep] = []

    def start(*arguments: Any, **options: Any) -> FakeSweep:
        started.append(FakeSweep(*arguments, **options))
        return started[-1]

    monkeypatch.setattr("workbench.analyze.studies.measure_sensitivity", start)
    monkeypatch.setattr("widgets.sensitivity.view.PACE", 0.0)
    monkeypatch.setattr(Studies, "_foresee", lambda studies, session: None)
    return started


@pytest.fixture
def view(session: FakeSession) -> Iterator[SensitivityView]:
    view = SensitivityView(session)
    yield view
    view.close()


def ask(view: SensitivityView, do: str, **content: Any) -> None:
    view._handle_custom_msg({"do": do, **content}, [])


def cells(view: SensitivityView, name: str) -> Any:
    kind = np.uint32 if name == "n" else np.float32
    return np.frombuffer(getattr(view, name), kind).reshape(len(NAMES), -1)


def test_a_sweep_is_drawn_as_it_comes_with_progress_and_what_is_left(
    view: SensitivityView, sweeps: list[FakeSweep]
) -> None:
    assert view.value == b""
    ask(view, "start")
    (sweep,) = sweeps
    assert sweep.tolerance == 0.005
    assert view.progress["state"] == "running"
    sweep.step(64, 0.1)
    assert cells(view, "n").min() == 64
    assert cells(view, "low")[0, 3] == pytest.approx(0.9 - 0.2 / 8, abs=1e-5)
    assert view.progress["left"] == 9.0
    sweep.step(TOTAL, 1, "done")
    assert cells(view, "value")[5, 8] == pytest.approx(0.85)
    assert (cells(view, "low") == cells(view, "high")).all()
    assert view.progress["state"] == "done"
    assert view.about["fewest"] == view.about["total"] == TOTAL
    assert view.about["split"] == "test"


@pytest.mark.parametrize("metric", METRICS)
def test_each_metric_is_drawn_as_harm_against_the_dense_model(
    view: SensitivityView, sweeps: list[FakeSweep], metric: str
) -> None:
    ask(view, "start")
    sweeps[0].step(64, 0.1)
    assert sweeps[0].latest is not None
    ask(view, "show", metric=metric)
    how = view.about["metric"]
    harm = how["factor"] * (cells(view, "value") - how["offset"])
    name = {"agreement": "disagreement"}.get(metric, metric)
    expected = sweeps[0].latest.harm(name).value * (100 if metric in ("drop", "agreement") else 1)
    assert harm == pytest.approx(expected, abs=1e-4)
    assert (cells(view, "low") <= cells(view, "high")).all()


def test_all_but_one_layer_is_a_sweep_of_its_own(view: SensitivityView, sweeps: list[FakeSweep]) -> None:
    ask(view, "start")
    sweeps[0].step(64, 0.1)
    ask(view, "show", mode="others")
    assert view.value == b""
    ask(view, "start")
    assert sweeps[0].cancelled
    assert sweeps[1].blank.question.mode == view.progress["mode"] == "others"
    sweeps[1].step(128, 0.2)
    assert cells(view, "n").max() == 128
    ask(view, "show", mode="only")
    assert cells(view, "n").max() == 64


def test_every_image_is_run_where_that_is_chosen(view: SensitivityView, sweeps: list[FakeSweep]) -> None:
    view.set_state({"precision": "every image"})
    ask(view, "start")
    assert sweeps[0].tolerance is None


def test_cancelled_what_was_found_stays(view: SensitivityView, sweeps: list[FakeSweep]) -> None:
    ask(view, "start")
    sweeps[0].step(64, 0.1)
    ask(view, "cancel")
    assert sweeps[0].cancelled
    sweeps[0].tell(0.1, "cancelled")
    assert view.progress["state"] == "cancelled"
    assert cells(view, "n").max() == 64


def test_a_finished_sweep_is_there_for_its_technique_and_for_later_views(
    view: SensitivityView, session: FakeSession, sweeps: list[FakeSweep]
) -> None:
    ask(view, "start")
    sweeps[0].step(TOTAL, 1, "done")
    ask(view, "show", technique="quantize")
    assert view.value == b""
    ask(view, "show", technique="prune")
    assert cells(view, "n").min() == TOTAL
    later = SensitivityView(session)
    assert later.value == view.value
    later.close()


def test_a_refused_or_failed_sweep_says_why(
    view: SensitivityView, sweeps: list[FakeSweep], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(view, "start")
    sweeps[0].tell(0.2, "failed", "The disk is full.")
    assert view.progress["error"] == "The disk is full."

    def refuse(*_: Any, **__: Any) -> None:
        raise WorkbenchError("This session is closed; open a new one.")

    monkeypatch.setattr("workbench.analyze.studies.measure_sensitivity", refuse)
    ask(view, "start")
    assert view.problem == "This session is closed; open a new one."


def test_choosing_a_cell_sets_that_layer_alone_and_selects_it(view: SensitivityView, session: FakeSession) -> None:
    session.apply(Recipe.parse("- prune: {ratio: 0.3}"))
    ask(view, "set", layer=3, level=0.8)
    assert session.recipe == Recipe.parse(
        f"- prune: {{ratio: 0.3, overrides: {{{NAMES[3]}: {{ratio: 0.8, scope: layer}}}}}}"
    )
    assert view.selected == [3]
    session.step()
    wait_until(view, "present", lambda present: present and np.frombuffer(present, np.float32)[3] == np.float32(0.8))
    assert np.frombuffer(view.present, np.float32)[0] == np.float32(0.3)


def test_a_locked_layer_is_not_set_and_that_is_said(view: SensitivityView, session: FakeSession) -> None:
    marks_of(session).lock([NAMES[3]])
    assert view.locked == [3]
    ask(view, "set", layer=3, level=0.8)
    assert session.recipe == Recipe()
    assert view.problem == f"{NAMES[3]} is locked, so it keeps its setting. Unlock it in the layer table to change it."
    ask(view, "set", layer=4, level=0.8)
    assert view.problem == ""


def test_layers_are_selected_in_all_views(view: SensitivityView, session: FakeSession) -> None:
    ask(view, "select", layers=[2, 5])
    assert marks_of(session).selected == (NAMES[2], NAMES[5])
    marks_of(session).select(NAMES[0])
    assert view.selected == [0]


@pytest.mark.parametrize(
    "content",
    [{"do": "set", "layer": 99, "level": 0.5}, {"do": "set"}, {"do": "show", "technique": "x"}, {"do": "select"}],
)
def test_nonsense_from_the_page_changes_nothing(
    view: SensitivityView, session: FakeSession, content: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    view._handle_custom_msg(content, [])
    assert session.recipe == Recipe()
    assert view.technique == "prune"


def test_a_move_of_the_slider_sends_only_where_the_layers_stand(
    view: SensitivityView, session: FakeSession, sweeps: list[FakeSweep], sent: list[tuple[dict[str, Any], int]]
) -> None:
    ask(view, "start")
    sweeps[0].step(TOTAL, 1, "done")
    while session.step():
        pass
    wait_until(view, "present", bool)
    sent.clear()
    session.apply(Recipe.parse("- prune: {ratio: 0.6}"))
    while session.step():
        pass
    wait_until(view, "present", lambda present: np.frombuffer(present, np.float32)[0] == np.float32(0.6))
    assert sum(size for _, size in sent) < 400


def test_a_hidden_view_is_sent_nothing_and_catches_up_when_it_is_seen(
    view: SensitivityView, sweeps: list[FakeSweep], sent: list[tuple[dict[str, Any], int]]
) -> None:
    ask(view, "start")
    view.set_state({"visible": False})
    sent.clear()
    for n in (64, 128, 256):
        sweeps[0].step(n, n / TOTAL)
    assert not sent
    view.set_state({"visible": True})
    wait_until(view, "n", bool)
    assert cells(view, "n").min() == 256


def test_one_drawing_of_the_map_is_a_few_kilobytes(
    view: SensitivityView, sweeps: list[FakeSweep], sent: list[tuple[dict[str, Any], int]]
) -> None:
    ask(view, "start")
    sent.clear()
    sweeps[0].step(64, 0.1)
    assert len(sent) <= 2
    assert sum(size for _, size in sent) < 16 * len(NAMES) * 9 + 800


def test_the_layer_table_is_told_points_lost_at_the_middle_level(session: FakeSession, sweeps: list[FakeSweep]) -> None:
    view, table = SensitivityView(session), LayersView(session)
    ask(view, "start")
    sweeps[0].step(TOTAL, 1, "done")
    assert np.frombuffer(table.sensitivity, np.float32) == pytest.approx([4.0] * len(NAMES))
    later = LayersView(session)
    assert later.sensitivity == table.sensitivity
    ask(view, "show", technique="quantize")
    ask(view, "start")
    sweep = sweeps[1]
    sweep.step(64, 0.1)
    assert sweep.latest is not None
    worse = dataclasses.replace(sweep.latest, value=sweep.latest.value - 0.1)
    assert points_lost({"prune": sweeps[0].latest, "quantize": worse})[NAMES[0]] == pytest.approx(14.0)  # type: ignore[dict-item]
    view.close()


def test_a_new_session_starts_without_the_old_ones_map(view: SensitivityView, sweeps: list[FakeSweep]) -> None:
    ask(view, "start")
    sweeps[0].step(64, 0.1)
    other = FakeSession(auto=False)
    view.attach(other)  # type: ignore[arg-type]
    assert view.value == b""
    assert view.progress == {}
    sweeps[0].step(128, 0.2)
    assert view.value == b""
    other.close()


def test_its_figure_has_the_map_and_the_curves(view: SensitivityView, sweeps: list[FakeSweep]) -> None:
    with pytest.raises(WorkbenchError, match="start a sweep first"):
        view.figure()
    ask(view, "start")
    sweeps[0].step(64, 0.1)
    figure = view.figure()
    left, right = figure.axes[:2]
    assert left.get_xlabel() == right.get_xlabel() == "Pruning ratio (%)"
    assert left.get_images()[0].get_array().shape == (len(NAMES), 9)
    assert len(right.lines) == len(NAMES) + 1


def test_a_sweep_that_is_over_does_not_keep_its_session_alive(sweeps: list[FakeSweep]) -> None:
    class Anything:
        """Stands for a Session; the fake one's thread would hold it."""

    session = Anything()
    studies = studies_of(session)  # type: ignore[arg-type]
    studies.start(session, "prune")  # type: ignore[arg-type]
    sweeps[0].step(TOTAL, 1, "done")
    assert studies.found["prune"].exact
    gone = weakref.ref(session)
    sweeps.clear()
    del session
    gc.collect()
    assert gone() is None
