from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from widgets.controls.state import BITS, OFF, ControlsState, controls_from_recipe, edited, keeping_locked, unshown
from workbench.recipe import Recipe

EVERYTHING = ("ratio", "bits", "granularity", "activations", "recalibrate")
ADVANCED = st.fixed_dictionaries(
    {},
    optional={
        "prune": st.fixed_dictionaries(
            {}, optional={"scope": st.just("layer"), "multiple": st.sampled_from([1, 2, 4]), "norm": st.just("l2")}
        ),
        "quantize": st.fixed_dictionaries({}, optional={"scheme": st.just("symmetric"), "per": st.just("tensor")}),
        "recalibrate": st.fixed_dictionaries({}, optional={"images": st.sampled_from([64, 256])}),
    },
)
STATES = st.builds(
    ControlsState,
    ratio=st.integers(0, 95), bits=st.sampled_from(BITS), granularity=st.sampled_from(["weight", "filter"]),
    activations=st.booleans(), recalibrate=st.booleans(), advanced=ADVANCED,
)  # fmt: skip
KEPT = Recipe.parse(
    """
- prune: {ratio: 0.5, layers: ["stage*", fc], overrides: {fc: {ratio: 0.1, scope: layer}}}
- quantize: {bits: 8, overrides: {conv1: {bits: 4}}}
- prune: {threshold: 0.001}
"""
)


def recipe_from(state: ControlsState) -> Recipe:
    return edited(Recipe(), state, EVERYTHING)


def test_untouched_controls_are_the_empty_recipe() -> None:
    assert recipe_from(ControlsState()) == Recipe()


def test_sliders_and_switches_are_the_steps_in_order() -> None:
    state = ControlsState(ratio=60, bits=4, activations=True, recalibrate=True)
    wanted = "- prune: {ratio: 0.6}\n- quantize: {bits: 4, activations: {bits: 8}}\n- recalibrate: {}"
    assert recipe_from(state).hash == Recipe.parse(wanted).hash


def test_channels_prune_filters_in_the_chosen_multiple() -> None:
    state = ControlsState(ratio=50, granularity="filter", advanced={"prune": {"multiple": 4}})
    wanted = Recipe.parse("- prune: {ratio: 0.5, granularity: filter, multiple: 4}")
    assert recipe_from(state).hash == wanted.hash


def test_sixteen_bits_are_half_floats() -> None:
    assert recipe_from(ControlsState(bits=16)).hash == Recipe.parse("- quantize: {format: fp16}").hash


def test_activations_alone_bring_eight_bit_weights() -> None:
    wanted = Recipe.parse("- quantize: {bits: 8, activations: {bits: 8}}")
    assert recipe_from(ControlsState(activations=True)).hash == wanted.hash


@given(STATES)
def test_every_position_of_the_controls_can_be_read_back_from_its_recipe(state: ControlsState) -> None:
    if state.activations and state.bits == OFF:
        state = replace(state, bits=8)
    recipe = recipe_from(state)
    shown = controls_from_recipe(recipe, state)
    assert replace(shown, advanced={}) == replace(state, advanced={})
    assert recipe_from(shown).hash == recipe.hash


def test_moving_one_control_keeps_everything_it_does_not_name() -> None:
    state = controls_from_recipe(KEPT)
    after = edited(KEPT, replace(state, ratio=70), ["ratio"]).to_data()
    before = KEPT.to_data()
    assert after[0]["prune"].pop("ratio") == 0.7
    before[0]["prune"].pop("ratio")
    assert after == before


def test_putting_a_slider_to_zero_keeps_layers_with_a_setting_of_their_own() -> None:
    state = replace(controls_from_recipe(KEPT), ratio=0, bits=OFF)
    after = edited(KEPT, state, ["ratio", "bits"])
    assert after.steps[0].settings_of("fc").model_dump()["ratio"] == 0.1
    assert after.steps[1].settings_of("conv1").model_dump()["bits"] == 4
    assert after.steps[1].settings_of("fc").model_dump()["bits"] == 32


def test_a_stale_control_changes_nothing_it_was_not_touched_for() -> None:
    stale = ControlsState(ratio=90, bits=2)
    assert edited(KEPT, stale, []) == KEPT
    assert edited(KEPT, stale, ["bits"]).steps[0] == KEPT.steps[0]


def test_an_advanced_setting_changes_the_step_that_is_there() -> None:
    recipe = Recipe.parse("- quantize: {bits: 8, activations: {bits: 8}}")
    advanced = {"quantize": {"scheme": "symmetric", "activations.observer": "percentile"}}
    state = replace(controls_from_recipe(recipe), advanced=advanced)
    names = ["advanced.quantize.scheme", "advanced.quantize.activations.observer", "advanced.prune.norm"]
    settings = edited(recipe, state, names).steps[0].settings.model_dump()
    assert settings["scheme"] == "symmetric"
    assert settings["activations"] == {"bits": 8, "observer": "percentile", "percentile": 99.99, "mode": "static"}
    assert len(edited(recipe, state, names).steps) == 1


def test_advanced_settings_are_remembered_while_the_technique_is_off() -> None:
    shown = controls_from_recipe(Recipe.parse("- prune: {ratio: 0.5, scope: layer}"))
    shown = controls_from_recipe(Recipe(), shown)
    again = edited(Recipe(), replace(shown, ratio=30), ["ratio"])
    assert again.hash == Recipe.parse("- prune: {ratio: 0.3, scope: layer}").hash


def test_a_recipe_with_more_than_the_controls_show_says_so() -> None:
    assert unshown(Recipe.parse("- prune: {ratio: 0.5}\n- recalibrate: {}")) == ""
    assert "settings of its own" in unshown(Recipe.parse("- prune: {ratio: 0.5, overrides: {fc: {ratio: 0.1}}}"))
    assert "it is kept" in unshown(Recipe.parse("- prune: {ratio: 0.5, layers: [fc]}"))
    assert "it is kept" in unshown(KEPT)


def test_locked_layers_keep_their_settings_through_another_recipe() -> None:
    preset = Recipe.parse("- quantize: {bits: 8}")
    after = keeping_locked(preset, KEPT, {"fc", "conv1"})
    assert after.steps[0].technique == "prune"
    assert after.steps[0].settings_of("fc").model_dump()["ratio"] == 0.1
    assert after.steps[0].settings_of("conv1").model_dump()["ratio"] == 0
    assert after.steps[1].settings_of("conv1").model_dump()["bits"] == 4
    assert keeping_locked(preset, KEPT, set()) == preset


@pytest.mark.parametrize(
    "given",
    [
        {"ratio": 1200}, {"ratio": "60"}, {"ratio": True}, {"bits": 9}, {"bits": None}, {"granularity": "__import__"},
        {"ratio": [1]}, {"advanced": {"prune": 3}}, {"advanced": [1]},
    ],
)  # fmt: skip
def test_positions_no_control_has_are_ignored(given: dict[str, Any]) -> None:
    assert ControlsState.from_page(given) == ControlsState()
