"""The recovery ladder: rungs in turn, kept where they help, until the loss is within what was asked for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from workbench.cli import main
from workbench.compression import compress
from workbench.data.dataset import Dataset
from workbench.data.load import load_dataset
from workbench.errors import WorkbenchError
from workbench.models.load import load_model
from workbench.models.model import Model
from workbench.recipe import Recipe
from workbench.train.jobs.job import train
from workbench.train.jobs.ladder import RUNGS, Rung, climb, rungs_for
from workbench.train.jobs.process import Interrupted, Within
from workbench.train.jobs.worker import Request

#: Loses 15 points, of which correcting biases wins back half.
HARSH = Recipe.parse("- quantize: {bits: 2}")
FEW = {"epochs": 1, "images": 2000, "learning_rate": 0.02}
FAST = tuple(
    Rung(rung.name, rung.title, tuple(dict.fromkeys(step, FEW) for step in rung.steps), "") for rung in RUNGS[3:5]
)
NEVER = Rung("never", "", ({"finetune": {"epochs": 1000}},), "")


@pytest.fixture(scope="module")
def lenet() -> Model:
    return load_model("lenet300")


@pytest.fixture(scope="module")
def fashion() -> Dataset:
    return load_dataset("fashion_mnist")


def test_a_climb_stops_as_soon_as_the_loss_is_within_what_was_asked_for(lenet: Model, fashion: Dataset) -> None:
    rungs = (RUNGS[1], Rung("reconstruct", "", ({"reconstruct": {"epochs": 10}},), ""), *FAST, NEVER)
    climbed = climb(lenet, fashion, HARSH, 5.0, rungs, place=Within()).result()
    assert climbed.before.value < climbed.dense.value - 0.1
    assert climbed.reached
    assert climbed.lost <= 5.0
    assert len(climbed.tried) >= 2
    assert [tried.rung for tried in climbed.tried] == [rung.name for rung in rungs[: len(climbed.tried)]]
    assert climbed.tried[-1].after == climbed.after
    assert all(100 * (climbed.dense.value - tried.before.value) > 5.0 for tried in climbed.tried)
    kept = [tried for tried in climbed.tried if tried.points > 0]
    assert len(climbed.recipe.steps) == 1 + len(kept)
    assert sum(tried.points for tried in kept) == pytest.approx(100 * (climbed.after.value - climbed.before.value))


def test_a_rung_that_does_not_help_is_not_kept(lenet: Model, fashion: Dataset) -> None:
    worse = Rung("worse", "", ({"prune": {"ratio": 0.5}}, {"quantize": {"bits": 1}}), "")
    refused = Rung("refused", "", ({"prune": {"criterion": "obs", "ratio": 0.5}},), "")
    climbed = climb(lenet, fashion, HARSH, 5.0, (worse, refused), place=Within()).result()
    assert not climbed.reached
    assert climbed.recipe == HARSH
    assert climbed.after == climbed.before
    assert climbed.tried[0].points < 0
    assert "already quantized" in climbed.tried[1].note


def test_nothing_is_tried_where_nothing_is_lost(lenet: Model, fashion: Dataset) -> None:
    climbed = climb(lenet, fashion, Recipe.parse("- quantize: {bits: 8}"), 0.5, place=Within()).result()
    assert climbed.reached
    assert climbed.tried == ()


def test_reconstruction_brings_layers_outputs_back_without_labels(lenet: Model, fashion: Dataset) -> None:
    train_split = fashion["train"]
    nameless = replace(train_split, labels=train_split.labels.flip(0))
    data = replace(fashion, splits={**fashion.splits, "train": nameless})
    recipe = Recipe.parse([*HARSH.to_data(), {"reconstruct": {"epochs": 8}}])
    train(lenet, data, recipe, place=Within()).result()
    images = lenet.normalization(data["test"].images[:500]) if lenet.normalization else data["test"].images[:500]
    with torch.no_grad():
        wanted = lenet.module(images)
        before = (compress(lenet, HARSH, data).module(images) - wanted).square().mean()
        after = (compress(lenet, recipe, data).module(images) - wanted).square().mean()
    assert after < 0.5 * before


def test_rungs_fit_the_model(lenet: Model, small_model: Model) -> None:
    assert rungs_for(small_model) == RUNGS
    assert "recalibrate" not in [rung.name for rung in rungs_for(lenet)]


def test_images_without_labels_can_not_judge_a_climb(lenet: Model, fashion: Dataset) -> None:
    bare = {name: replace(part, labels=torch.full_like(part.labels, -1)) for name, part in fashion.splits.items()}
    with pytest.raises(WorkbenchError, match="needs labels, and the validation images of 'fashion_mnist' have none"):
        climb(lenet, replace(fashion, splits=bare), HARSH)
    with pytest.raises(WorkbenchError, match="a core or more, not 0"):
        climb(lenet, fashion, HARSH, threads=0)


def test_a_rung_whose_training_fails_is_skipped(lenet: Model, fashion: Dataset) -> None:
    closed = Rung("closed", "", ({"learn_bits": FEW},), "")
    climbed = climb(lenet, fashion, HARSH, None, (closed, RUNGS[1]), place=Within()).result()
    assert [tried.rung for tried in climbed.tried] == ["closed", "correct_bias"]
    assert "found no weights whose bits are open" in climbed.tried[0].note
    assert climbed.tried[0].points == 0
    assert [step.technique for step in climbed.recipe.steps] == ["quantize", "correct_bias"]


@pytest.mark.parametrize("what", ["running already", "ended by itself"])
def test_a_rung_that_was_interrupted_ends_the_climb(what: str, lenet: Model, fashion: Dataset) -> None:
    class Busy(Within):
        def run(self, request: Request, follow: Any) -> None:
            raise Interrupted(f"This training is {what}.")

    with pytest.raises(WorkbenchError, match=what):
        climb(lenet, fashion, HARSH, None, FAST, place=Busy()).result()


def test_bad_targets_are_refused_in_a_sentence(lenet: Model, fashion: Dataset) -> None:
    for points in (-1.0, float("nan")):
        with pytest.raises(WorkbenchError, match=f"A loss of {points:g} points can't be asked for"):
            climb(lenet, fashion, HARSH, points)
    without = {name: part for name, part in fashion.splits.items() if name != "validation"}
    with pytest.raises(WorkbenchError, match="needs a split 'validation'"):
        climb(lenet, replace(fashion, splits=without), HARSH)


def test_the_command_climbs_and_tells_every_rung(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(HARSH.to_yaml())
    command = ["train", "--model", "lenet300", "--data", "fashion_mnist", "--recipe", str(path), "--climb", "10"]
    assert main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [tried["rung"] for tried in told["ladder"]] == ["correct_bias"]
    assert told["ladder"][0]["per_second"] > 0
    assert told["reached"]
    assert told["lost"] <= 10
    assert told["after"]["value"] > told["before"]["value"] + 0.05
    assert told["recipe"] == [*HARSH.to_data(), {"correct_bias": {}}]
