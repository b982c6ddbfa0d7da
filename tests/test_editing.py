from __future__ import annotations

import glob
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.compression import compress
from workbench.editing import (
    dial_values,
    layer_setting,
    own_setting,
    released,
    with_layer,
    with_layers,
    with_settings,
    without,
    without_layers,
    without_stale_training,
)
from workbench.errors import WorkbenchError
from workbench.recipe import Recipe

NAMES = ("conv1", "stage1.0.conv1", "stage1.0.conv2", "block[0]", "fc")

ratios = st.integers(0, 999).map(lambda permille: permille / 1000)
bits = st.sampled_from((1, 2, 3, 4, 5, 6, 7, 8, 16, 32))
some_layers = st.lists(st.sampled_from(NAMES), min_size=1, max_size=5, unique=True)
patterns = st.sampled_from(("*", "stage1.*", "fc", "conv?"))


@st.composite
def prune_settings(draw: st.DrawFn) -> dict[str, Any]:
    chosen: dict[str, Any] = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "ratio": ratios.filter(bool),  # an idle step would be dropped
                "scope": st.sampled_from(("global", "layer")),
                "granularity": st.sampled_from(("weight", "filter")),
                "threshold": st.sampled_from((0.01, 0.5)),
            },
        )
    )
    if draw(st.booleans()):
        chosen["overrides"] = {draw(patterns): {"ratio": draw(ratios)}}
    return chosen


@st.composite
def quantize_settings(draw: st.DrawFn) -> dict[str, Any]:
    return draw(
        st.one_of(
            st.fixed_dictionaries({"bits": bits.filter(lambda width: width < 32)}),
            st.fixed_dictionaries({"scheme": st.just("symmetric"), "activations": st.just({"bits": 8})}),
            st.just({"format": "bf16"}),
        )
    )


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    steps: list[Any] = []
    if draw(st.booleans()):
        steps.append({"prune": draw(prune_settings())})
    if draw(st.booleans()):
        steps.append({"quantize": draw(quantize_settings())})
    if draw(st.booleans()):
        steps.append({"recalibrate": {}})
    return Recipe.parse(steps)


@given(recipes(), some_layers, ratios)
def test_a_layers_own_ratio_is_what_it_was_given_and_the_others_keep_theirs(
    recipe: Recipe, layers: list[str], ratio: float
) -> None:
    edited = with_layer(recipe, "prune", layers, ratio)
    for name in NAMES:
        if name in layers:
            assert layer_setting(edited, "prune", name) == own_setting(edited, "prune", name) == ratio
        else:
            assert layer_setting(edited, "prune", name) == layer_setting(recipe, "prune", name)
        assert layer_setting(edited, "quantize", name) == layer_setting(recipe, "quantize", name)


@given(recipes(), some_layers, bits)
def test_a_layers_own_bits_are_what_it_was_given_and_the_others_keep_theirs(
    recipe: Recipe, layers: list[str], width: int
) -> None:
    edited = with_layer(recipe, "quantize", layers, width)
    for name in NAMES:
        expected = width if name in layers else layer_setting(recipe, "quantize", name)
        assert layer_setting(edited, "quantize", name) == expected


@given(recipes(), some_layers, ratios, bits)
def test_forgetting_a_layers_own_values_brings_the_recipe_back(
    recipe: Recipe, layers: list[str], ratio: float, width: int
) -> None:
    recipe = without_layers(recipe, NAMES)
    edited = with_layer(with_layer(recipe, "prune", layers, ratio), "quantize", layers, width)
    assert edited != recipe
    assert without_layers(edited, layers) == recipe
    assert without_layers(without_layers(edited, layers, "prune"), layers, "quantize") == recipe


@given(recipes(), some_layers, ratios)
def test_edits_stay_recipes_that_yaml_brings_back(recipe: Recipe, layers: list[str], ratio: float) -> None:
    edited = with_layer(recipe, "prune", layers, ratio)
    assert Recipe.parse(edited.to_yaml()) == edited


@given(recipes(), some_layers, ratios)
def test_dial_values_are_what_each_layer_says_alone(recipe: Recipe, layers: list[str], ratio: float) -> None:
    edited = with_layer(recipe, "prune", layers, ratio)
    for technique in ("prune", "quantize"):
        for name, dial in dial_values(edited, technique, NAMES).items():
            assert dial.value == layer_setting(edited, technique, name)
            assert dial.own == (own_setting(edited, technique, name) is not None)


@given(recipes(), ratios, some_layers, ratios)
def test_a_moved_slider_leaves_layers_with_their_own_value_alone(
    recipe: Recipe, ratio: float, layers: list[str], own: float
) -> None:
    edited = with_settings(with_layer(recipe, "prune", layers, own), "prune", {"ratio": ratio})
    assert [layer_setting(edited, "prune", name) for name in layers] == [own] * len(layers)


def test_many_layers_can_be_given_a_value_each() -> None:
    edited = with_layers(Recipe(), "quantize", {"conv1": 8, "fc": 2})
    assert [layer_setting(edited, "quantize", name) for name in ("conv1", "stage1.0.conv1", "fc")] == [8, 32, 2]
    assert with_layers(edited, "prune", {}) == edited


def test_a_default_that_was_not_written_stays_in_force_for_the_others() -> None:
    edited = with_layer(Recipe.parse("- quantize: {scheme: symmetric}"), "quantize", ["fc"], 2)
    assert layer_setting(edited, "quantize", "conv1") == 8


def test_a_layers_own_ratio_holds_where_the_others_are_cut_at_a_threshold() -> None:
    recipe = with_layer(Recipe.parse("- prune: {threshold: 0.05}"), "prune", ["fc3"], 0.5)
    compressed = compress("lenet300", recipe, "fashion_mnist")
    assert compressed.layers[2].sparsity == pytest.approx(0.5, abs=0.001)


def test_a_layer_the_step_left_out_is_taken_in_for_its_own_value() -> None:
    edited = with_layer(Recipe.parse("- prune: {ratio: 0.5, layers: [fc]}"), "prune", ["conv1"], 0.2)
    assert [layer_setting(edited, "prune", name) for name in ("fc", "conv1", "conv2")] == [0.5, 0.2, 0]


@pytest.mark.parametrize("named", ["[conv*]", "[fc1, 'conv?', fc2]", "[fc]"])
def test_a_layer_taken_in_for_its_own_value_is_left_out_again_with_it(named: str) -> None:
    recipe = Recipe.parse(f"- prune: {{ratio: 0.5, layers: {named}}}")
    once = with_layer(recipe, "prune", ["block[0]"], 0.2)
    both = with_layer(once, "prune", ["last"], 0.3)
    if named == "[fc]":  # of names alone nobody can tell who wrote which
        assert without_layers(once, ["block[0]"]).steps[0].layers == ("fc", glob.escape("block[0]"))
        return
    assert without_layers(once, ["block[0]"]) == recipe
    assert without_layers(both, ["block[0]", "last"]) == recipe
    assert without_layers(without_layers(both, ["block[0]"]), ["last"]) == recipe


def test_a_name_that_a_person_wrote_outlives_its_own_value() -> None:
    for named in ("[fc1, 'conv*']", "[fc1, fc2]", "['conv*', fc1, fc2]"):
        recipe = Recipe.parse(f"- prune: {{ratio: 0.5, layers: {named}}}")
        assert without_layers(with_layer(recipe, "prune", ["fc1"], 0.2), ["fc1"]) == recipe


def test_names_that_look_like_patterns_mean_themselves() -> None:
    edited = with_layer(Recipe(), "prune", ["block[0]"], 0.3)
    assert layer_setting(edited, "prune", "block[0]") == 0.3
    assert layer_setting(edited, "prune", "block0") == 0
    assert edited.steps[0].overrides[0].pattern == glob.escape("block[0]")


def test_steps_that_still_do_something_outlive_a_layers_own_value() -> None:
    for text in (
        "- prune: {ratio: 0, threshold: 0.01}",
        "- quantize: {bits: 32, activations: {bits: 8}}",
        "- prune: {ratio: 0.5}\n- prune: {ratio: 0.2, layers: [fc]}",
    ):
        recipe = Recipe.parse(text)
        technique = recipe.steps[0].technique
        assert without_layers(with_layer(recipe, technique, ["fc"], 8 if technique == "quantize" else 0.1), ["fc"]) == (
            recipe
        )


def test_of_two_steps_of_a_technique_only_the_one_with_the_own_value_changes() -> None:
    recipe = Recipe.parse("- prune: {ratio: 0.5}\n- prune: {ratio: 0.2, overrides: {fc: {ratio: 0.1}}}")
    assert without_layers(recipe, ["fc"]) == Recipe.parse("- prune: {ratio: 0.5}\n- prune: {ratio: 0.2}")


def test_releasing_a_technique_drops_its_step_unless_a_layer_has_its_own_value() -> None:
    recipe = Recipe.parse("- prune: {ratio: 0.6}\n- quantize: {bits: 4}")
    assert released(recipe, "prune") == without(recipe, "prune") == Recipe.parse("- quantize: {bits: 4}")
    kept = released(with_layer(recipe, "prune", ["fc"], 0.2), "prune")
    assert [layer_setting(kept, "prune", name) for name in ("conv1", "fc")] == [0, 0.2]
    assert released(kept, "recalibrate") == kept


def test_a_technique_without_a_dial_is_refused_by_name() -> None:
    with pytest.raises(WorkbenchError, match=r"'recalibrate' has no setting for each layer; .* prune, .*quantize"):
        with_layer(Recipe(), "recalibrate", ["fc"], 1)


TUNED = "- prune: {ratio: 0.5}\n- finetune: {epochs: 2}\n- share: {bits: 4}\n- finetune: {epochs: 1}"


def test_what_stands_behind_a_changed_step_is_stale_and_what_stands_before_it_is_not() -> None:
    before = Recipe.parse(TUNED)
    recipe, stale = without_stale_training(before, with_settings(before, "prune", {"ratio": 0.6}))
    assert recipe == Recipe.parse("- prune: {ratio: 0.6}\n- share: {bits: 4}")
    assert stale == (before.steps[1], before.steps[3])
    recipe, stale = without_stale_training(before, with_settings(before, "share", {"bits": 3}))
    assert [step.technique for step in recipe.steps] == ["prune", "finetune", "share"]
    assert stale == (before.steps[3],)


def test_a_new_step_is_put_behind_what_was_trained_and_leaves_it_valid() -> None:
    before = Recipe.parse("- prune: {ratio: 0.5}\n- finetune: {}")
    after = with_settings(before, "quantize", {"bits": 4})
    assert [step.technique for step in after.steps] == ["prune", "finetune", "quantize"]
    assert without_stale_training(before, after) == (after, ())


def test_a_trained_step_that_is_new_is_not_taken_for_stale() -> None:
    before = Recipe.parse("- prune: {ratio: 0.5}")
    after = Recipe.parse("- prune: {ratio: 0.6}\n- finetune: {}")
    assert without_stale_training(before, after) == (after, ())
