"""Bad orders are named with their reason; sensible ones pass without a word."""

from __future__ import annotations

import pytest

import workbench as wb
from workbench.data.load import load_dataset
from workbench.engine import Engine
from workbench.history import History
from workbench.measure.devices.target import find_target
from workbench.models.load import load_model
from workbench.recipe import Recipe
from workbench.techniques import TECHNIQUES
from workbench.techniques.order import remarks, remarks_on


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- quantize: {bits: 4}\n- prune: {ratio: 0.5}", "put prune before quantize"),
        ("- share: {bits: 4}\n- prune: {ratio: 0.5}", "put prune before share"),
        ("- quantize: {bits: 8}\n- factorize: {}", "what quantize stored is lost"),
        ("- share: {bits: 4}\n- quantize: {bits: 8}", "quantize replaces the codebook"),
        ("- share: {bits: 6}\n- share: {bits: 4}", "a codebook of a codebook"),
        ("- quantize: {bits: 8, per: tensor}\n- equalize: {}", "put equalize before quantize"),
        ("- recalibrate: {}\n- prune: {ratio: 0.5, layers: [fc1]}", "put recalibrate last"),
        ("- factorize: {}\n- prune: {granularity: filter}", "put prune before factorize"),
        ("- quantize: {bits: 4}\n- split: {}", "put split before quantize"),
        ("- split: {}\n- equalize: {}", "put equalize before split"),
        ("- factorize: {}\n- split: {}", "put split before factorize"),
        ("- quantize: {bits: 3, range: mse}\n- correct_bias: {spread: false}", "leave spread of correct_bias on"),
        ("- prune: {ratio: 0.8}\n- correct_bias: {spread: false}", "leave spread of correct_bias on"),
    ],
)
def test_a_bad_order_is_told_with_its_reason(text: str, words: str) -> None:
    (remark,) = remarks(Recipe.parse(text).steps)
    assert remark.startswith("Steps 1 and 2: ")
    assert words in remark


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "- equalize: {}\n- prune: {ratio: 0.5}\n- factorize: {}\n- share: {bits: 4}\n- recalibrate: {}",
        "- quantize: {bits: 8, layers: [conv*]}\n- share: {bits: 4, layers: [fc*]}",
        "- factorize: {}\n- prune: {ratio: 0.5}\n- quantize: {bits: 4}",
        "- equalize: {}\n- split: {}\n- quantize: {bits: 4, range: mse}\n- correct_bias: {}",
        "- quantize: {bits: 4}\n- correct_bias: {spread: false}",
    ],
)
def test_a_sensible_order_has_no_remark(text: str) -> None:
    assert remarks(Recipe.parse(text).steps) == ()


@pytest.mark.parametrize("step", ["equalize", "fold_batchnorm", "smooth", "split"])
def test_what_is_rewritten_after_pruning_is_not_corrected_and_this_is_told(step: str) -> None:
    text = f"- prune: {{ratio: 0.5}}\n- {step}: {{}}\n- correct_bias: {{}}"
    (remark,) = remarks(Recipe.parse(text).steps)
    assert remark.startswith("Steps 1, 2 and 3: ")
    assert f"put {step} before prune" in remark
    for sensible in (
        text.replace("ratio: 0.5", "ratio: 0.5, granularity: filter"),
        f"- {step}: {{}}\n- prune: {{ratio: 0.5}}\n- correct_bias: {{}}",
        f"- prune: {{ratio: 0.5}}\n- {step}: {{}}",
    ):
        assert remarks(Recipe.parse(sensible).steps) == ()


def test_a_grid_that_makes_every_weight_zero_is_told() -> None:
    (note,) = wb.compress("lenet300", "- quantize: {bits: 1, scheme: symmetric}", image_shape=(1, 28, 28)).notes
    assert "take format: binary" in note
    overridden = "- quantize: {bits: 4, scheme: symmetric, overrides: {fc2: {bits: 1}}}"
    assert len(remarks(Recipe.parse(overridden).steps)) == 1
    for text in ("- quantize: {bits: 1}", "- quantize: {bits: 1, scheme: symmetric, range: mse}"):
        assert remarks(Recipe.parse(text).steps) == ()


def test_remarks_are_among_the_notes() -> None:
    ours = wb.compress("lenet300", "- quantize: {bits: 4}\n- prune: {ratio: 0.5}", image_shape=(1, 28, 28))
    assert any("put prune before quantize" in note for note in ours.notes)


def test_patterns_that_a_device_has_no_instructions_for_are_told() -> None:
    steps = Recipe.parse(
        "- prune: {ratio: 0.5}\n- prune: {granularity: 'n:m', ratio: 0.5, n: 2, m: 4, layers: [fc1]}"
    ).steps
    (remark,) = remarks_on("A phone", None, steps)
    assert remark.startswith("Step 2: A phone has instructions for no pattern of zeros, so that 2:4 pruning")
    assert remarks_on("A card", "2:4", steps) == ()
    (other,) = remarks_on("A card", "4:8", steps)
    assert "only for 4:8 patterns" in other
    assert "keep 4:8" in other


def test_choosing_a_device_with_the_instructions_takes_the_remark_away() -> None:
    recipe = Recipe.parse("- prune: {granularity: 'n:m', ratio: 0.5, n: 2, m: 4}")
    engine = Engine(load_model("lenet300"), load_dataset("fashion_mnist"), "test", History(":memory:"))
    here = engine.outline(0, recipe, lambda: None)
    assert any("This machine has instructions for no pattern" in note for note in here.notes)
    engine.latencies.target = find_target("a100-sxm")
    assert not any("instructions" in note for note in engine.refresh_latency(here).notes)


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("- quantize: {bits: 4, group_size: 16}", "group_size changes nothing with per channel"),
        ("- quantize: {bits: 16, scheme: symmetric}", "scheme changes nothing with bits 16"),
        ("- prune: {ratio: 0.4, threshold: 0.1}", "ratio changes nothing with threshold 0.1"),
        ('- prune: {granularity: "n:m", overrides: {fc: {granularity: weight, m: 8}}}', "m changes nothing with"),
        ("- factorize: {images: 64}", "images changes nothing with weighted off"),
        ("- quantize: {activations: {percentile: 99}}", "activations.percentile changes nothing with activations.obs"),
        ("- share: {seed: 4}", "seed changes nothing with start linear"),
    ],
)
def test_a_setting_that_changes_nothing_is_told(recipe: str, words: str) -> None:
    (said,) = remarks(Recipe.parse(recipe).steps)
    assert words in said


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_nothing_is_said_of_the_examples(technique: str) -> None:
    for example in TECHNIQUES[technique].examples:
        assert remarks(Recipe.parse(example).steps) == ()


@pytest.mark.parametrize(
    "recipe",
    ["- share: {seed: 4, start: random}", "- share: {seed: 4, method: hash}", "- prune: {criterion: obs}",
     "- quantize: {format: integer, bits: 16, scheme: symmetric}", "- prune: {block_rows: 4}"],
)  # fmt: skip
def test_nothing_is_said_of_settings_that_matter_or_are_at_their_default(recipe: str) -> None:
    assert remarks(Recipe.parse(recipe).steps) == ()
