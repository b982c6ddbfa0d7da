from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from widgets.recipes import BITS, OFF, ControlsState, controls_from_recipe, recipe_from_controls
from workbench.recipe import Recipe

STATES = st.builds(
    ControlsState,
    ratio=st.integers(0, 95), bits=st.sampled_from(BITS), granularity=st.sampled_from(["weight", "filter"]),
    activations=st.booleans(), recalibrate=st.booleans(), scope=st.sampled_from(["global", "layer"]),
    scheme=st.sampled_from(["affine", "symmetric"]), per=st.sampled_from(["channel", "tensor"]),
    multiple=st.sampled_from([1, 2, 4, 8, 16]),
)  # fmt: skip


def test_untouched_controls_are_the_empty_recipe() -> None:
    assert recipe_from_controls(ControlsState()) == Recipe()


def test_sliders_and_switches_are_the_steps_in_order() -> None:
    state = ControlsState(ratio=60, bits=4, activations=True, recalibrate=True)
    assert recipe_from_controls(state) == Recipe.parse(
        "- prune: {ratio: 0.6}\n- quantize: {bits: 4, activations: {bits: 8}}\n- recalibrate: {}"
    )


def test_channels_prune_filters_in_the_chosen_multiple() -> None:
    state = ControlsState(ratio=50, granularity="filter", multiple=4)
    assert recipe_from_controls(state) == Recipe.parse("- prune: {ratio: 0.5, granularity: filter, multiple: 4}")


def test_sixteen_bits_are_half_floats() -> None:
    assert recipe_from_controls(ControlsState(bits=16)) == Recipe.parse("- quantize: {format: fp16}")


def test_activations_alone_bring_eight_bit_weights() -> None:
    assert recipe_from_controls(ControlsState(activations=True)) == Recipe.parse(
        "- quantize: {bits: 8, activations: {bits: 8}}"
    )


@given(STATES)
def test_every_position_of_the_controls_can_be_read_back_from_its_recipe(state: ControlsState) -> None:
    if state.activations and state.bits == OFF:
        state = replace(state, bits=8)
    assert controls_from_recipe(recipe_from_controls(state), state) == state


@pytest.mark.parametrize(
    "text",
    [
        "- prune: {ratio: 0.5, layers: [fc]}",
        "- prune: {ratio: 0.5, overrides: {fc: {ratio: 0.1}}}",
        "- prune: {ratio: 0.555}",
        "- quantize: {bits: 4}\n- prune: {ratio: 0.5}",
        "- quantize: {bits: 4, activations: {bits: 6}}",
        "- prune: {threshold: 0.01}",
    ],
)
def test_a_recipe_the_controls_cannot_show_says_so(text: str) -> None:
    assert controls_from_recipe(Recipe.parse(text)) is None


@pytest.mark.parametrize(
    "given",
    [{"ratio": 1200}, {"ratio": "60"}, {"bits": 9}, {"bits": None}, {"scope": "__import__"}, {"ratio": [1]}],
)
def test_positions_no_control_has_are_ignored(given: dict[str, Any]) -> None:
    assert ControlsState.from_page(given) == ControlsState()
