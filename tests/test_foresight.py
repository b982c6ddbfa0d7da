"""Figures found beforehand are those a Session tells first, kept for later sessions, and never of another model."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import workbench as wb
from workbench.bulletin import Superseded
from workbench.data.dataset import UNLABELLED
from workbench.errors import WorkbenchError
from workbench.evaluation import Evaluator
from workbench.foresight import Foresight
from workbench.glimpse import LONGEST
from workbench.history import Key
from workbench.kept import Found, Kept, owner_of
from workbench.recipe import Recipe
from workbench.session import Session
from workbench.snapshot import Foreseen
from workbench.subject import Subject
from workbench.techniques.context import Cache

PRUNED = [Recipe.parse(f"- prune: {{ratio: {ratio}}}") for ratio in (0.1, 0.5, 0.9)]


def nothing() -> None:
    pass


def group(*recipes: Recipe) -> Callable[[], Sequence[Recipe]]:
    return lambda: recipes


class Finder:
    """Counts what it was asked for; the bytes of a recipe tell its ratio."""

    def __init__(self) -> None:
        self.asked: list[Recipe] = []
        self.trouble: Exception | None = None

    def __call__(self, recipe: Recipe, check: Callable[[], None]) -> Found:
        self.asked.append(recipe)
        check()
        if self.trouble is not None:
            raise self.trouble
        return Found(1000 - int(100 * recipe.steps[0].settings.model_dump()["ratio"]), 900, 2000)


def foresight(finder: Finder, path: Path | None = None, owner: str = "one") -> Foresight:
    return Foresight(finder, lambda: Kept(path, owner))


def finish(one: Foresight) -> None:
    while one.has_more():
        one.go_on(nothing)


def test_wanted_figures_are_found_in_their_order_and_told_group_by_group() -> None:
    finder, told = Finder(), []
    one = foresight(finder)
    assert one.get(PRUNED[0].hash) is None
    one.want([group(*PRUNED[:2]), group(PRUNED[2])], lambda: told.append(len(finder.asked)))
    finish(one)
    assert finder.asked == PRUNED
    assert told == [0, 0, 2, 3]
    assert one.get(PRUNED[2].hash) == Found(910, 900, 2000)


def test_going_on_ends_with_each_group() -> None:
    one = foresight(Finder())
    one.want([group(*PRUNED[:2]), group(PRUNED[2])], nothing)
    counts = []
    for _ in range(4):
        counts.append(0)
        while one.go_on(nothing):
            counts[-1] += 1
    assert counts == [2, 1, 2, 1]  # near ones and others looked up, then found
    assert not one.has_more()


def test_what_is_wanted_now_replaces_what_was() -> None:
    finder, told = Finder(), []
    one = foresight(finder)
    one.want([group(*PRUNED[:2])], lambda: told.append("before"))
    while not finder.asked:
        one.go_on(nothing)
    one.want([group(PRUNED[2])], lambda: told.append("now"))
    finish(one)
    assert finder.asked == [PRUNED[0], PRUNED[2]]
    assert told == ["before", "before", "now", "now", "now"]


def test_an_interrupted_one_is_found_the_next_time() -> None:
    finder = Finder()
    one = foresight(finder)
    one.want([group(*PRUNED)], nothing)
    for _ in range(2):
        while one.go_on(nothing):  # looks them up
            pass

    def moved() -> None:
        raise Superseded

    with pytest.raises(Superseded):
        one.go_on(moved)
    assert one.get(PRUNED[0].hash) is None
    finish(one)
    assert finder.asked == [PRUNED[0], *PRUNED]


def test_what_a_model_refuses_and_what_learns_from_data_is_left_out() -> None:
    finder = Finder()
    finder.trouble = WorkbenchError("This model has no channels that can be removed.")
    one = foresight(finder)
    one.want([group(PRUNED[0], Recipe.parse("- quantize: {bits: 8, activations: {bits: 8}}"))], nothing)
    finish(one)
    assert finder.asked == PRUNED[:1]
    assert one.get(PRUNED[0].hash) is None


def test_without_time_for_it_what_is_known_is_told_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Kept(tmp_path / "foreseen.sqlite", "one")
    before.keep(PRUNED[0].hash, Found(7, 6, None))
    before.close()
    monkeypatch.setenv("WORKBENCH_FORESIGHT", "0")
    finder, told = Finder(), []
    one = foresight(finder, tmp_path / "foreseen.sqlite")
    one.want([group(*PRUNED)], lambda: told.append(True))
    finish(one)
    assert not finder.asked
    assert told
    assert one.get(PRUNED[0].hash) == Found(7, 6, None)
    one.close()


@pytest.mark.parametrize("given", ["soon", "-1", "nan"])
def test_a_setting_that_is_no_number_of_seconds_is_refused(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_FORESIGHT", given)
    with pytest.raises(WorkbenchError, match=f"WORKBENCH_FORESIGHT is '{given}': give the seconds"):
        foresight(Finder())


def test_figures_are_kept_for_later_sessions_of_the_same_model_alone(tmp_path: Path) -> None:
    path, finder = tmp_path / "foreseen.sqlite", Finder()
    for _ in range(2):
        one = foresight(finder, path)
        one.want([group(*PRUNED)], nothing)
        finish(one)
        one.close()
    assert finder.asked == PRUNED
    other = Kept(path, "another")
    assert other.get(PRUNED[0].hash) is None
    other.close()


def test_what_was_kept_without_images_is_found_again_by_who_has_time_for_them(tmp_path: Path) -> None:
    path, finder = tmp_path / "foreseen.sqlite", Finder()
    for sees in (False, False, True):
        one = Foresight(finder, lambda: Kept(path, "one"), lambda: sees)  # noqa: B023 - it is asked in this round alone
        one.want([group(PRUNED[0])], nothing)
        finish(one)
        one.close()
    assert finder.asked == PRUNED[:1] * 2


def test_another_process_is_not_asked_to_find_the_same_again(tmp_path: Path) -> None:
    path, found = tmp_path / "foreseen.sqlite", Found(7, 6, None, 64, 0.5, 0.25, 0.75, 0.125)
    ours, theirs = Kept(path, "one"), Kept(path, "one")
    theirs.keep("aa", found)
    assert ours.get("aa") is None
    assert ours.look_up("aa") == found
    ours.close()
    theirs.close()


def test_a_file_that_is_none_is_done_without(tmp_path: Path) -> None:
    path = tmp_path / "foreseen.sqlite"
    path.write_text("not a data base, but long enough to be read as one" * 100)
    kept = Kept(path, "one")
    kept.keep("aa", Found(7, 6, None))
    assert kept.get("aa") == Found(7, 6, None)
    kept.close()


def test_what_is_old_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "foreseen.sqlite"
    monkeypatch.setattr("workbench.kept._today", lambda: 100)
    kept = Kept(path, "one")
    kept.keep("aa", Found(7, 6, None))
    kept.close()
    monkeypatch.setattr("workbench.kept._today", lambda: 161)
    Kept(path, "one").close()
    assert sqlite3.connect(path).execute("select count(*) from figures").fetchone() == (0,)


def test_the_owner_is_the_model_as_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = wb.load_model(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)))
    other = wb.load_model(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)))
    key = Key("model", "weights", "data", "images", "test", "onnxruntime")
    subject = Subject.of(model, (1, 28, 28))
    owner = owner_of(subject, key, 0)
    assert owner == owner_of(Subject.of(model, (1, 28, 28)), key, 0)
    assert owner != owner_of(Subject.of(other, (1, 28, 28)), key, 0)
    assert owner != owner_of(subject, key, 1)
    assert owner != owner_of(subject, replace(key, data_hash="other images"), 0)
    monkeypatch.setattr("workbench.kept.cpu_identity", lambda: "another processor")
    assert owner != owner_of(subject, key, 0)


RECIPES = ("- prune: {ratio: 0.5}\n- quantize: {bits: 3}", "- prune: {granularity: filter, ratio: 0.5}")


@pytest.mark.parametrize("text", RECIPES)
def test_a_session_foresees_what_it_tells_first_and_the_next_one_knows_it(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, told, history = Recipe.parse(text), threading.Semaphore(0), str(tmp_path / "history.sqlite")
    with Session("lenet5", "fashion_mnist", history=history) as session:
        assert session.foreseen(recipe) is None
        session.look_ahead([group(recipe)], told.release)
        session.measure(Recipe())
        assert all(told.acquire(timeout=60) for _ in range(3))
        foreseen = session.foreseen(recipe)
        session.apply(recipe)
        first = next(snapshot for snapshot in session.snapshots() if snapshot.accuracy)
        assert first.accuracy.kind == "sampled"
        assert (foreseen.size, foreseen.score, foreseen.agreement) == (
            first.size,
            first.accuracy,
            first.agreement.value,
        )
        assert foreseen.size.bytes == len(session.compressed.archive.to_bytes())

    def find(*_: object) -> Found:
        raise AssertionError("this one is known")

    monkeypatch.setattr("workbench.glimpse.Glimpses.find", find)
    with Session("lenet5", "fashion_mnist", history=history) as session:
        session.look_ahead([group(recipe)], told.release)
        assert told.acquire(timeout=60)
        assert session.foreseen(recipe.hash) == foreseen


def foreseen_of(*recipes: Recipe) -> list[Foreseen | None]:
    """Return what a session foresees of ``recipes``, one after the other."""
    told = threading.Semaphore(0)
    with Session("lenet5", "fashion_mnist", history=":memory:") as session:
        session.look_ahead([group(*recipes)], told.release)
        session.measure(Recipe())
        assert all(told.acquire(timeout=60) for _ in range(3))
        return [session.foreseen(recipe) for recipe in recipes]


def test_images_that_take_long_are_not_run_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.glimpse.LONGEST", 0.0)
    first, second = foreseen_of(*PRUNED[:2])
    assert first.score is not None
    assert second.score is None
    assert second.size.bytes > 0


def test_a_busy_machine_is_not_taken_for_a_model_whose_images_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Evaluator.batches

    def slow(*args: Any, **options: Any) -> Iterator[object]:
        time.sleep(LONGEST + 0.1)
        return run(*args, **options)

    monkeypatch.setattr(Evaluator, "batches", slow)
    assert all(foreseen.score is not None for foreseen in foreseen_of(*PRUNED[:2]))


def test_nobody_waits_for_a_graph_that_is_exported_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.graphs.Graphs.exports", lambda *_: True)
    assert foreseen_of(PRUNED[0]) == [None]


def test_without_labels_agreement_is_foreseen() -> None:
    data = wb.load_dataset("fashion_mnist")
    test = replace(data["test"], labels=torch.full_like(data["test"].labels, UNLABELLED))
    bare = replace(data, splits={**data.splits, "test": test})
    told = threading.Semaphore(0)
    with Session("lenet5", bare, history=":memory:") as session:
        session.look_ahead([group(PRUNED[1])], told.release)
        session.measure(Recipe())
        assert all(told.acquire(timeout=60) for _ in range(3))
        foreseen = session.foreseen(PRUNED[1])
        assert foreseen.score.value == foreseen.agreement
        session.apply(PRUNED[1])
        first = next(snapshot for snapshot in session.snapshots() if snapshot.agreement)
        assert first.agreement == foreseen.score


def test_a_cache_keeps_nothing_of_what_only_passes() -> None:
    cache = Cache()
    cache.put("before", 1)
    with cache.passing():
        cache.put("beside", 2)
        assert "beside" in cache
    assert list(cache) == ["before"]
