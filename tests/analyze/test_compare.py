from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from workbench.analyze.compare import compare_settings, diff_recipes
from workbench.cli import main
from workbench.errors import WorkbenchError
from workbench.recipe import Recipe
from workbench.session import Session


def differences(before: str, after: str) -> list[str]:
    return [str(one) for one in diff_recipes(Recipe.parse(before), Recipe.parse(after))]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("- quantize: {bits: 8}", "- quantize: {bits: 8, scheme: affine}", []),  # a default written out
        ("- quantize: {bits: 8}", "- quantize: {bits: 4}", ["quantize: bits 8 → 4"]),
        ("[]", "- prune: {ratio: 0.5}", ["prune added: ratio 0.5"]),
        ("- prune: {ratio: 0.5}", "[]", ["prune removed: ratio 0.5"]),
        (
            "- prune: {ratio: 0.5}\n- quantize: {bits: 8}",
            "- quantize: {bits: 8}\n- prune: {ratio: 0.5}",
            ["quantize: step 2 → step 1"],
        ),
        (
            "- prune: {ratio: 0.5, overrides: {fc: {ratio: 0.1}}}",
            "- prune: {ratio: 0.5, layers: ['stage*'], overrides: {}}",
            ["prune: layers * → stage*", "prune: override of fc: ratio 0.1 → none"],
        ),
    ],
)
def test_recipes_differ_as_a_person_would_say(before: str, after: str, expected: list[str]) -> None:
    assert differences(before, after) == expected


def test_a_comparison_counts_the_flips_between_any_two_settings_and_stands_on_their_answers() -> None:
    recipes = [Recipe.parse("- quantize: {bits: 3}"), Recipe.parse("- quantize: {bits: 2}")]
    with Session("lenet300", "fashion_mnist", history=":memory:") as session:
        found = compare_settings(session, recipes)
        labels = session.split.labels.numpy()
        first, other = (setting.answers for setting in found.settings)
        assert np.array_equal(session.logits(recipes[1]).argmax(1), other)  # type: ignore[union-attr]
    (contrast,) = found.contrasts
    right, still = first == labels, other == labels
    assert contrast.lost.tolist() == np.flatnonzero(right & ~still).tolist()
    assert contrast.flips.lost - contrast.flips.won == right.sum() - still.sum() > 100
    accuracies = [setting.snapshot.accuracy.value for setting in found.settings]  # type: ignore[union-attr]
    assert accuracies == [right.mean(), still.mean()]
    assert contrast.classes.overall.value == pytest.approx(accuracies[1] - accuracies[0])


def test_a_single_setting_cannot_be_compared() -> None:
    with (
        Session("lenet300", "fashion_mnist", history=":memory:") as session,
        pytest.raises(WorkbenchError, match="two settings or more"),
    ):
        compare_settings(session, [Recipe()])


def test_the_command_compares_a_recipe_with_the_dense_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "two.yaml"
    path.write_text("- quantize: {bits: 2}\n")
    assert main(["compare", "--model", "lenet300", "--data", "fashion_mnist", "--json", str(path)]) == 0
    report = json.loads(capsys.readouterr().out)
    (comparison,) = report["comparisons"]
    flips, classes = comparison["flips"], comparison["classes"]
    dense, compressed = (setting["accuracy"]["value"] for setting in report["settings"])
    assert (comparison["before"], comparison["after"]) == ("dense", str(path))
    assert comparison["recipe"][0]["text"] == "quantize added: bits 2"
    assert len(flips["images_lost"]) == flips["lost"] == sum(row["lost"] for row in classes["rows"])
    assert compressed - dense == pytest.approx((flips["won"] - flips["lost"]) / flips["total"])
    assert main(["compare", "--model", "lenet300", "--data", "fashion_mnist", str(path), "dense"]) == 0
    assert "quantize removed: bits 2" in capsys.readouterr().out


def test_a_recipe_file_that_is_missing_ends_with_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--model", "lenet300", "--data", "fashion_mnist", "nowhere.yaml"]) == 2
    assert "'nowhere.yaml' cannot be read" in capsys.readouterr().err
