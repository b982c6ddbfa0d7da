"""The Train view starts jobs, shows them as they come, and offers again what a slider took off."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.train.conftest import Small, small_data  # noqa: F401
from tests.widgets.conftest import wait_until
from widgets.base.marks import marks_of
from widgets.controls.view import ControlsView
from widgets.train.figure import interval
from widgets.train.view import TrainView
from workbench.data.dataset import Dataset
from workbench.editing import with_settings
from workbench.errors import WorkbenchError
from workbench.models.load import load_model
from workbench.recipe import Recipe
from workbench.session import Session
from workbench.train.jobs import queue
from workbench.train.jobs.process import Within
from workbench.train.jobs.queue import Trainings, trainings_of

BASE = Recipe.parse("- prune: {ratio: 0.5}")
FAST = {"epochs": 2, "batch": 16, "augment": "none"}


@pytest.fixture
def training(
    small_data: Dataset,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Session]:
    """A Session whose jobs train in this process."""
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path))
    with Session(load_model(Small().eval()), small_data, history=":memory:") as session:
        found = Trainings(session, Within)
        found.budget = 1
        monkeypatch.setitem(queue.trainings_of._made, session, found)
        session.measure(BASE)
        yield session


def ask(view: TrainView, **content: Any) -> None:
    view.receive(content, [])


def test_a_method_is_trained_drawn_and_put_into_the_recipe(training: Session) -> None:
    view = TrainView(training)
    assert "finetune" in [method["name"] for method in view.methods]
    ask(view, do="start", method="finetune", settings=FAST)
    jobs = wait_until(view, "jobs", lambda jobs: jobs and jobs[0]["applied"], 60)
    assert jobs[0]["title"] == "Finetune, 2 epochs"
    assert jobs[0]["base"] == "50 % pruned"
    (curve,) = view.curves.values()
    assert [point[0] for point in curve["points"]] == [0, 1, 2]
    assert all(low <= value <= high for _, value, low, high, _ in curve["points"])
    assert view.shown == [jobs[0]["id"]]
    assert training.recipe == Recipe.parse([*BASE.to_data(), {"finetune": FAST}])
    view.figure()


def test_a_rung_is_run_with_one_click_and_tells_its_points(training: Session) -> None:
    view = TrainView(training)
    ask(view, do="rung", rung="recalibrate")
    ladder = wait_until(view, "ladder", lambda rungs: "points" in rungs[0], 60)
    assert ladder[0]["title"] == "Recalibrate BatchNorm"
    assert ladder[0]["seconds"] > 0


def test_bad_wishes_are_answered_in_a_sentence(training: Session) -> None:
    view = TrainView(training)
    ask(view, do="start", method="finetune", settings={"epochs": 0})
    assert "epochs" in view.problem
    ask(view, do="climb", within=-1)
    wait_until(view, "jobs", lambda jobs: jobs and jobs[0]["state"] == "failed")
    assert "-1 points" in view.jobs[0]["error"]
    with pytest.raises(WorkbenchError, match="nothing to draw yet"):
        view.plot(None)  # type: ignore[arg-type]


def test_a_moved_slider_takes_trained_steps_off_and_they_come_back_with_the_recipe(training: Session) -> None:
    trained = Recipe.parse([*BASE.to_data(), {"finetune": FAST}])
    view, controls = TrainView(training), ControlsView(training)
    marks = marks_of(training)
    marks.change(training, lambda _: trained, whole=True)
    assert view.waiting == ""
    marks.change(training, lambda recipe: with_settings(recipe, "prune", {"ratio": 0.6}))
    assert training.recipe == Recipe.parse("- prune: {ratio: 0.6}")
    assert (
        view.waiting == "Taken off, since the recipe before it was changed: Finetune, 2 epochs. Start trains it again."
    )
    assert view.chosen == {"method": "finetune", "settings": FAST}
    assert "Taken off" in controls.remarks[0]
    marks.change(training, lambda recipe: with_settings(recipe, "prune", {"ratio": 0.5}))
    assert training.recipe == trained
    assert view.waiting == ""
    assert not any("Taken off" in remark for remark in controls.remarks)


def test_steps_that_nobody_trained_yet_can_be_trained_from_here(training: Session) -> None:
    view = TrainView(training)
    training.apply(Recipe.parse([*BASE.to_data(), {"finetune": FAST}]))
    wait_until(view, "waiting", lambda told: "has not been trained" in told)
    ask(view, do="train")
    wait_until(view, "jobs", lambda jobs: jobs and jobs[0]["state"] == "done", 60)
    wait_until(view, "waiting", lambda told: told == "")


def test_a_job_that_ends_while_nobody_looks_is_shown_as_ended(training: Session) -> None:
    view = TrainView(training)
    ask(view, do="start", method="finetune", settings={**FAST, "epochs": 12})
    training.measure("- quantize: {bits: 8}")  # what comes of the job is not applied
    view.draw(training.snapshot)
    view.visible = False
    assert [job["state"] for job in view.jobs] == ["running"]
    while not all(entry.over for entry in trainings_of(training).entries):
        time.sleep(0.05)
    view.visible = True
    wait_until(view, "jobs", lambda jobs: [job["state"] for job in jobs] == ["done"])


def test_intervals_are_wilsons() -> None:
    low, high = interval(0.9, 100)
    assert (round(low, 4), round(high, 4)) == (0.8256, 0.9448)
    assert interval(0.5, 0) == (0.5, 0.5)
