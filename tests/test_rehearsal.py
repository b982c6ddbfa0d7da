"""What a session prepares in quiet moments, and that it stops when it is no longer quiet."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from workbench.bulletin import Superseded
from workbench.compression import compress_subject, context_for
from workbench.models.load import load_model
from workbench.recipe import Recipe
from workbench.rehearsal import MAIN, WHOLE, Rehearsal, examples
from workbench.subject import Subject
from workbench.techniques import TECHNIQUES
from workbench.techniques.context import Cache


@pytest.fixture
def subject() -> Subject:
    return Subject.of(load_model("lenet5"), (1, 28, 28))


Exemplify = Callable[..., None]


@pytest.fixture
def exemplify(monkeypatch: pytest.MonkeyPatch) -> Exemplify:
    """Return what makes these recipes all examples that there are."""

    def only(*recipes: str) -> None:
        monkeypatch.setattr("workbench.rehearsal.examples", lambda: map(Recipe.parse, recipes))

    return only


@pytest.fixture(autouse=True)
def _two_examples(exemplify: Exemplify) -> None:
    exemplify("- factorize: {size: 0.5}", "- prune: {ratio: 0.5}")


def test_first_moves_find_what_was_prepared_and_get_the_same_bytes(subject: Subject) -> None:
    recipe = Recipe.parse("- factorize: {size: 0.3}")
    prepared, fresh = (context_for(subject.model, None) for _ in range(2))
    rehearsal = Rehearsal(subject, prepared)
    assert [rehearsal.go_on(lambda: None) for _ in range(3)] == [True, True, False]
    kept = ("spectrum", f"{subject.hash}:fc1.weight", None)
    assert kept in prepared.cache
    assert kept not in fresh.cache
    ours, theirs = (compress_subject(subject, recipe, context).archive for context in (prepared, fresh))
    assert [part.pack() for part in ours.tensors.values()] == [part.pack() for part in theirs.tensors.values()]


def test_a_factorized_model_is_read_beforehand(subject: Subject) -> None:
    read: list[str] = []
    rehearsal = Rehearsal(
        subject, context_for(subject.model, None), lambda compressed: read.append(compressed.recipe.to_yaml())
    )
    while rehearsal.go_on(lambda: None):
        pass
    assert read == [Recipe.parse("- factorize: {size: 0.5}").to_yaml()]


def test_an_example_that_was_given_up_is_carried_out_later(subject: Subject) -> None:
    def busy() -> None:
        raise Superseded

    rehearsal = Rehearsal(subject, context_for(subject.model, None))
    with pytest.raises(Superseded):
        rehearsal.go_on(busy)
    assert [rehearsal.go_on(lambda: None) for _ in range(3)] == [True, True, False]


def test_what_a_model_refuses_is_passed_over(subject: Subject, exemplify: Exemplify) -> None:
    exemplify("- prune: {granularity: 'n:m', n: 1, m: 7}")
    rehearsal = Rehearsal(subject, context_for(subject.model, None))
    assert [rehearsal.go_on(lambda: None) for _ in range(2)] == [True, False]


def test_nothing_more_is_found_once_the_cache_is_nearly_full(subject: Subject) -> None:
    context = context_for(subject.model, None)
    context.cache = Cache(budget=1)
    context.cache.put("found by a move", 1)
    assert not Rehearsal(subject, context).go_on(lambda: None)


def test_the_main_sliders_come_first(subject: Subject, exemplify: Exemplify) -> None:
    count = sum(len(TECHNIQUES[name].examples) for name in MAIN)
    assert all(recipe.steps[-1].technique in MAIN for recipe in itertools.islice(examples(), count))
    exemplify("- prune: {ratio: 0.5}", "- factorize: {size: 0.5}")
    rehearsal = Rehearsal(subject, context_for(subject.model, None))
    assert rehearsal.is_on_main
    assert rehearsal.go_on(lambda: None)
    assert not rehearsal.is_on_main


def test_what_would_fill_the_cache_is_given_up_and_leaves_what_was_there(
    subject: Subject, exemplify: Exemplify
) -> None:
    exemplify("- prune: {ratio: 0.5}", "- quantize: {format: kmeans, bits: 3}")
    context = context_for(subject.model, None)
    context.cache = Cache(subject.dense_fp32_bytes * 3)
    rehearsal = Rehearsal(subject, context)
    assert rehearsal.go_on(lambda: None)
    ranked = set(context.cache)
    while rehearsal.go_on(lambda: None):
        pass
    assert {key[0] for key in ranked} == {"finite", "ranked"}
    assert ranked <= set(context.cache)
    assert not any(key[0] == "in order" for key in context.cache)


def test_each_position_of_a_slider_of_whole_numbers_is_prepared(subject: Subject, exemplify: Exemplify) -> None:
    exemplify("- share: {entries: 24}", "- quantize: {bits: 16}")
    context = context_for(subject.model, None)
    rehearsal = Rehearsal(subject, context)
    carried_out = 0
    while rehearsal.go_on(lambda: None):
        carried_out += 1
    assert carried_out == 2 + 8 + 8  # the examples, and 1 to 8 bits of each
    sizes = {key[3].size for key in context.cache if key[0] == "shared"}
    assert sizes == {24, 2, 4, 8, 16, 32, 64, 128, 255}


def test_settings_carried_out_whole_come_first_and_leave_their_sizes(subject: Subject) -> None:
    context = context_for(subject.model, None)
    rehearsal = Rehearsal(subject, context, whole=WHOLE)
    for recipe in WHOLE:
        assert rehearsal.is_on_main
        rehearsal.go_on(lambda: None)
        before = set(context.encodings)
        compress_subject(subject, recipe, context)
        assert set(context.encodings) == before
