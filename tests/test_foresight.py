"""Sizes found beforehand are those of the packed file, kept for later sessions, and never of another model."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import workbench as wb
from workbench.bulletin import Superseded
from workbench.errors import WorkbenchError
from workbench.foresight import Foresight, Found, KeptSizes, owner_of
from workbench.measure.estimate import Size
from workbench.recipe import Recipe
from workbench.session import Session
from workbench.subject import Subject
from workbench.techniques.context import Cache

PRUNED = [Recipe.parse(f"- prune: {{ratio: {ratio}}}") for ratio in (0.1, 0.5, 0.9)]


def nothing() -> None:
    pass


class Packer:
    """Counts what it was asked for, and the bytes of each recipe in its ratio."""

    def __init__(self) -> None:
        self.asked: list[Recipe] = []
        self.trouble: Exception | None = None

    def __call__(self, recipe: Recipe, check: Callable[[], None]) -> Size:
        self.asked.append(recipe)
        check()
        if self.trouble is not None:
            raise self.trouble
        return Size(1000 - int(100 * recipe.steps[0].settings.model_dump()["ratio"]), 4000, 2000, 900)


def foresight(packer: Packer, path: Path | None = None, owner: str = "one") -> Foresight:
    return Foresight(packer, lambda: KeptSizes(path, owner))


def finish(one: Foresight) -> None:
    while one.has_more():
        one.go_on(nothing)


def test_wanted_sizes_are_found_in_their_order_and_told_group_by_group() -> None:
    packer, told = Packer(), []
    one = foresight(packer)
    assert one.get(PRUNED[0].hash) is None
    one.want([PRUNED[:2], PRUNED[2:]], lambda: told.append(len(packer.asked)))
    finish(one)
    assert packer.asked == PRUNED
    assert told == [2, 3]
    assert one.get(PRUNED[2].hash) == Found(910, 900, 2000)


def test_what_is_wanted_now_replaces_what_was() -> None:
    packer, told = Packer(), []
    one = foresight(packer)
    one.want([PRUNED[:2]], lambda: told.append("before"))
    one.go_on(nothing)
    one.want([PRUNED[2:]], lambda: told.append("now"))
    finish(one)
    assert packer.asked == [PRUNED[0], PRUNED[2]]
    assert told == ["now"]


def test_an_interrupted_one_is_found_the_next_time() -> None:
    packer = Packer()
    one = foresight(packer)
    one.want([PRUNED], nothing)

    def moved() -> None:
        raise Superseded

    with pytest.raises(Superseded):
        one.go_on(moved)
    assert one.get(PRUNED[0].hash) is None
    finish(one)
    assert packer.asked == [PRUNED[0], *PRUNED]


def test_what_a_model_refuses_and_what_learns_from_data_is_left_out() -> None:
    packer = Packer()
    packer.trouble = WorkbenchError("This model has no channels that can be removed.")
    one = foresight(packer)
    one.want([[PRUNED[0], Recipe.parse("- quantize: {bits: 8, activations: {bits: 8}}")]], nothing)
    finish(one)
    assert packer.asked == PRUNED[:1]
    assert one.get(PRUNED[0].hash) is None


def test_time_for_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.foresight.SECONDS", 0.0)
    packer = Packer()
    one = foresight(packer)
    one.want([PRUNED], nothing)
    finish(one)
    assert not packer.asked


def test_sizes_are_kept_for_later_sessions_of_the_same_model_alone(tmp_path: Path) -> None:
    path, packer = tmp_path / "sizes.sqlite", Packer()
    first = foresight(packer, path)
    first.want([PRUNED], nothing)
    finish(first)
    first.close()
    again = foresight(packer, path)
    again.want([PRUNED], nothing)
    finish(again)
    again.close()
    assert packer.asked == PRUNED
    other = KeptSizes(path, "another")
    assert other.get(PRUNED[0].hash) is None
    other.close()


def test_another_process_is_not_asked_to_find_the_same_again(tmp_path: Path) -> None:
    path = tmp_path / "sizes.sqlite"
    ours, theirs = KeptSizes(path, "one"), KeptSizes(path, "one")
    theirs.keep("aa", Found(7, 6, None))
    assert ours.get("aa") is None
    assert ours.look_up("aa") == Found(7, 6, None)
    ours.close()
    theirs.close()


def test_a_file_that_is_none_is_done_without(tmp_path: Path) -> None:
    path = tmp_path / "sizes.sqlite"
    path.write_text("not a data base, but long enough to be read as one" * 100)
    kept = KeptSizes(path, "one")
    kept.keep("aa", Found(7, 6, None))
    assert kept.get("aa") == Found(7, 6, None)
    kept.close()


def test_the_owner_is_the_model_as_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = wb.load_model(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)))
    other = wb.load_model(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)))
    owner = owner_of(Subject.of(model, (1, 28, 28)))
    assert owner == owner_of(Subject.of(model, (1, 28, 28)))
    assert owner != owner_of(Subject.of(other, (1, 28, 28)))
    monkeypatch.setattr("workbench.foresight.cpu_identity", lambda: "another processor")
    assert owner != owner_of(Subject.of(model, (1, 28, 28)))


@pytest.mark.parametrize("text", ["- prune: {ratio: 0.5}", "- quantize: {bits: 4}"])
def test_a_session_knows_to_the_byte_what_it_found_and_so_does_the_next(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, told, history = Recipe.parse(text), threading.Event(), str(tmp_path / "history.sqlite")
    with Session("lenet5", "fashion_mnist", history=history) as session:
        assert session.known_size(recipe) is None
        session.find_sizes([[recipe]], told.set)
        session.measure(Recipe())
        assert told.wait(60)
        known = session.known_size(recipe)
        assert known == session.measure(recipe).size
        assert known.bytes == len(session.compressed.archive.to_bytes())
    told.clear()

    def pack(*_: object) -> Size:
        raise AssertionError("this size is known")

    monkeypatch.setattr("workbench.engine.Engine._find_size", pack)
    with Session("lenet5", "fashion_mnist", history=history) as session:
        session.find_sizes([[recipe]], told.set)
        assert told.wait(60)
        assert session.known_size(recipe.hash) == known


def test_a_cache_keeps_nothing_of_what_only_passes() -> None:
    cache = Cache()
    cache.put("before", 1)
    with cache.passing():
        cache.put("beside", 2)
        assert "beside" in cache
    assert list(cache) == ["before"]
