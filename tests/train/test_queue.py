"""The jobs of a Session: one running, others waiting, results applied where nobody moved on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from workbench.data.dataset import Dataset
from workbench.errors import WorkbenchError
from workbench.history import History
from workbench.models.model import Model
from workbench.recipe import Recipe
from workbench.session import Session
from workbench.train.jobs.ladder import RUNGS
from workbench.train.jobs.process import Within
from workbench.train.jobs.queue import Entry, Trainings, stem

BASE = Recipe.parse("- prune: {ratio: 0.5}")


def tuned(epochs: int = 1, base: Recipe = BASE) -> Recipe:
    return Recipe.parse([*base.to_data(), {"finetune": {"epochs": epochs, "batch": 16, "augment": "none"}}])


@pytest.fixture
def session(small_model: Model, small_data: Dataset) -> Iterator[Session]:
    with Session(small_model, small_data, history=History(":memory:")) as session:
        session.measure(BASE)
        yield session


@pytest.fixture
def trainings(session: Session) -> Trainings:
    found = Trainings(session, Within)
    found.budget = 1
    return found


def wait_for(trainings: Trainings, holds: Callable[[tuple[Entry, ...]], bool]) -> tuple[Entry, ...]:
    """Return the entries once ``holds(entries)``."""
    reached = threading.Event()
    leave = trainings.subscribe(lambda now: reached.set() if holds(now.entries) else None)
    if not holds(trainings.entries):
        assert reached.wait(60), trainings.entries
    leave()
    return trainings.entries


def test_what_was_trained_is_applied_and_reaches_the_history_with_its_parent(
    session: Session, trainings: Trainings
) -> None:
    trainings.train(tuned(), BASE, "one epoch")
    (entry,) = wait_for(trainings, lambda entries: entries[0].applied)
    assert entry.state == "done"
    assert len(entry.curve) == 1
    assert session.recipe == tuned()
    session.measure()
    records = {record.recipe_hash: record for record in session.records()}
    assert records[tuned().hash].parent == records[BASE.hash].id
    assert trainings.pace["finetune"] > 0


def test_jobs_wait_for_a_core_and_start_one_after_the_other(trainings: Trainings) -> None:
    first = trainings.train(tuned(900), BASE, "long")
    second = trainings.train(tuned(1), BASE, "short")
    assert (first.state, second.state) == ("running", "queued")
    with pytest.raises(WorkbenchError, match="running or waiting already"):
        trainings.train(tuned(1), BASE, "again")
    trainings.cancel(first.id)
    entries = wait_for(trainings, lambda entries: all(entry.over for entry in entries))
    assert [entry.state for entry in entries] == ["cancelled", "done"]
    trainings.remove(first.id)
    assert [entry.id for entry in trainings.entries] == [second.id]
    trainings.remove(second.id)
    again = trainings.train(tuned(1), BASE, "again")
    (after,) = wait_for(trainings, lambda entries: entries[0].over)
    assert (after.id, after.state) == (again.id, "done")


def test_a_job_that_waits_can_be_called_off(trainings: Trainings) -> None:
    first, second = trainings.train(tuned(900), BASE, "long"), trainings.train(tuned(1), BASE, "short")
    trainings.cancel(second.id)
    trainings.cancel(first.id)
    entries = wait_for(trainings, lambda entries: all(entry.over for entry in entries))
    assert [entry.state for entry in entries] == ["cancelled", "cancelled"]


def test_a_paused_training_rests_until_it_is_resumed(trainings: Trainings) -> None:
    entry = trainings.train(tuned(20), BASE, "paused")
    trainings.pause(entry.id)
    assert trainings.entries[0].state == "paused"
    trainings.resume(entry.id)
    (after,) = wait_for(trainings, lambda entries: entries[0].over)
    assert after.state == "done"


def test_the_seconds_that_are_told_leave_out_pauses(trainings: Trainings, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr("workbench.train.jobs.job.time", clock)
    monkeypatch.setattr("workbench.jobs.time", clock)
    entry = trainings.train(tuned(3), BASE, "paused")
    trainings.pause(entry.id)
    clock.now = 1000.0
    trainings.resume(entry.id)
    (after,) = wait_for(trainings, lambda entries: entries[0].over)
    assert (after.state, after.seconds) == ("done", 0)


def test_a_session_that_is_closed_ends_its_trainings(session: Session, trainings: Trainings) -> None:
    trainings.budget = 2
    paused = trainings.train(tuned(1000), BASE, "paused")
    trainings.pause(paused.id)
    trainings.train(tuned(999), BASE, "running")
    trainings.train(tuned(998), BASE, "waiting")
    assert [entry.state for entry in trainings.entries] == ["paused", "running", "queued"]
    session.close()
    entries = wait_for(trainings, lambda entries: all(entry.over for entry in entries))
    assert [entry.state for entry in entries] == ["cancelled"] * 3
    with pytest.raises(WorkbenchError, match="session is closed"):
        trainings.train(tuned(997), BASE, "late")


def test_a_person_who_moved_on_is_left_where_they_are(session: Session, trainings: Trainings) -> None:
    entry = trainings.train(tuned(3), BASE, "late")
    elsewhere = Recipe.parse("- quantize: {bits: 8}")
    session.apply(elsewhere)
    (after,) = wait_for(trainings, lambda entries: entries[0].over)
    assert not after.applied
    assert session.recipe == elsewhere
    trainings.apply(entry.id)
    assert session.recipe == tuned(3)


def test_rungs_leave_their_figures_for_the_recipe_they_stood_on(trainings: Trainings) -> None:
    trainings.climb(BASE, None, RUNGS[:2], "cheap ones")
    (entry,) = wait_for(trainings, lambda entries: entries[0].over)
    assert entry.state == "done"
    tried = trainings.tried(BASE)
    assert set(tried) == {"recalibrate", "correct_bias"}
    assert trainings.tried(RUNGS[0].after(BASE)) == tried
    assert trainings.tried(Recipe.parse("- quantize: {bits: 2}")) == {}


def test_a_stem_is_a_recipe_without_its_repairs() -> None:
    text = "- prune: {ratio: 0.5}\n- recalibrate: {}\n- finetune: {epochs: 1}\n- correct_bias: {}"
    assert stem(Recipe.parse(text)) == BASE


def test_what_can_not_be_trained_is_refused_before_it_waits(trainings: Trainings) -> None:
    with pytest.raises(WorkbenchError, match="no step that trains"):
        trainings.train(BASE, BASE, "nothing")
    assert trainings.entries == ()
