"""Between a teacher and a far smaller student stand models compressed less, each taught by the one before."""

from __future__ import annotations

import pytest
import torch

from workbench.compression import compress
from workbench.data.dataset import Dataset
from workbench.errors import WorkbenchError
from workbench.models.model import Model
from workbench.recipe import Recipe
from workbench.train.jobs.job import train
from workbench.train.jobs.process import Within
from workbench.train.jobs.worker import Request
from workbench.train.teaching.assistants import eased

BEFORE = "- prune: {ratio: 0.9, overrides: {fc: {ratio: 0.6}}}\n- quantize: {bits: 2}\n"


def test_an_assistant_is_the_recipe_part_of_the_way() -> None:
    recipe = Recipe.parse(BEFORE + "- finetune: {epochs: 1}")
    assert eased(recipe, 0.5).to_data() == [
        {"prune": {"ratio": 0.45, "overrides": {"fc": {"ratio": 0.3}}}}, {"quantize": {"bits": 5}},
    ]  # fmt: skip
    assert eased(recipe, 1 / 3).to_data()[1] == {"quantize": {"bits": 6}}
    assert eased(recipe, 2 / 3).to_data()[1] == {"quantize": {"bits": 4}}
    with pytest.raises(WorkbenchError, match="no model between teacher and student"):
        eased(Recipe.parse("- recalibrate"), 0.5)


def test_each_is_taught_by_the_one_before_and_found_again(small_model: Model, small_data: Dataset) -> None:
    seen: list[Request] = []

    class Watching(Within):
        def run(self, request: Request, follow: object) -> None:
            seen.append(request)
            super().run(request, follow)  # type: ignore[arg-type]

    text = BEFORE + "- distill: {epochs: 1, batch: 16, learning_rate: 0.05, augment: none, assistants: 2}"
    recipe = Recipe.parse(text)
    job = train(small_model, small_data, recipe, place=Watching())
    assert job.result().after.value > job.result().before.value
    assert job.progress.total == 3
    assert len(seen) == 3
    images = torch.randn(4, 1, 8, 8)
    assert torch.equal(seen[0].teacher(images), small_model.module(images))
    zeros = [int((dict(one.teacher.named_parameters())["conv.weight"] == 0).sum()) for one in seen]
    student = compress(small_model, recipe, small_data).tensors["conv.weight"]
    assert zeros[0] < zeros[1] < zeros[2] < int((student == 0).sum())
    seen.clear()
    train(small_model, small_data, recipe, place=Watching()).result()
    assert seen == []
