"""Grids of inputs learn by the gradients of the papers, and what they learned is what runs afterwards."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from workbench.compression import compress
from workbench.data.dataset import Dataset
from workbench.models.edits import BinarizeInput, InputQuantizer, QuantizeInput
from workbench.models.model import Model
from workbench.recipe import Recipe
from workbench.train.constraints.inputs import LearnedInput
from workbench.train.jobs.job import train
from workbench.train.jobs.process import Within

VALUES = torch.tensor([[-0.5, 0.26, 0.93, 5.0, 0.049]])
EDIT = QuantizeInput("fc", 3, 0.1, 2)


@pytest.mark.parametrize("how", ["step", "cut"])
def test_before_it_learns_it_rounds_as_the_fixed_grid(how: str) -> None:
    layer = nn.Linear(5, 1)
    (ours,), (theirs,) = (grid(layer, (VALUES,), {})[0] for grid in (LearnedInput(EDIT, how), InputQuantizer(EDIT)))
    torch.testing.assert_close(ours, theirs)


def test_a_step_gets_the_gradient_of_the_rounded_value() -> None:
    grid = LearnedInput(EDIT, "step")
    grid(nn.Linear(5, 1), (VALUES,), {})[0][0].sum().backward()
    place = VALUES / 0.1 + 2
    inside = (place > 0) & (place < 7)
    each = torch.where(inside, torch.round(place) - place, torch.where(place >= 7, 5.0, -2.0))
    assert grid.scale.grad is not None
    torch.testing.assert_close(grid.scale.grad, each.sum() / math.sqrt(5 * 7), rtol=1e-5, atol=1e-6)


def test_an_offset_gets_the_gradient_of_what_lies_beyond_the_grid() -> None:
    """Bhalgat et al. 2020, equation 5."""
    grid, values = LearnedInput(EDIT, "step", learn_offset=True), VALUES.clone().requires_grad_()
    ((rounded,), _) = grid(nn.Linear(5, 1), (values,), {})
    torch.testing.assert_close(rounded, InputQuantizer(EDIT)(nn.Linear(5, 1), (VALUES,), {})[0][0])
    rounded.sum().backward()
    assert grid.offset is not None
    assert grid.offset.grad is not None
    torch.testing.assert_close(grid.offset.grad, torch.tensor(3 / math.sqrt(5 * 7)))  # three values beyond
    assert values.grad is not None
    assert values.grad.tolist() == [[0.0, 1.0, 0.0, 0.0, 1.0]]


def test_a_cut_gets_the_gradient_of_what_lies_beyond_it() -> None:
    grid, values = LearnedInput(EDIT, "cut"), VALUES.clone().requires_grad_()
    grid(nn.Linear(5, 1), (values,), {})[0][0].sum().backward()
    assert grid.scale.grad is not None
    assert float(grid.scale.grad) == pytest.approx(2 * 5 / math.sqrt(5 * 7))  # two values beyond; the top is five steps
    assert values.grad is not None
    assert values.grad.tolist() == [[0.0, 1.0, 0.0, 0.0, 1.0]]


@pytest.mark.parametrize("how", ["step", "offset", "cut"])
def test_learned_grids_of_inputs_are_stored(how: str, small_model: Model, small_data: Dataset) -> None:
    before: list[dict[str, Any]] = [{"quantize": {"bits": 3, "activations": {"bits": 4}}}]
    settings = {"epochs": 4, "batch": 16, "augment": "none", "learning_rate": 0.05, "learn_inputs": how}
    if how == "offset":
        settings |= {"learn_inputs": "step", "learn_offsets": True}
    recipe = Recipe.parse([*before, {"finetune": settings}])
    trained = train(small_model, small_data, recipe, place=Within()).result()
    plain, tuned = compress(small_model, Recipe.parse(before), small_data), compress(small_model, recipe, small_data)
    scales = [
        {edit.layer: edit.scale for edit in one.edits if isinstance(edit, QuantizeInput)} for one in (plain, tuned)
    ]
    assert scales[0].keys() == scales[1].keys()
    assert all(scales[0][layer] != scales[1][layer] for layer in scales[0])
    split = small_data["validation"]
    with torch.no_grad():
        right = (tuned.module(split.images).argmax(1) == split.labels).float().mean()
    assert float(right) == pytest.approx(trained.after.value, abs=0.01)
    assert trained.after.value > 0.85


@pytest.mark.parametrize("how", ["no", "step"])
def test_a_binary_input_passes_gradients_within_a_standard_deviation(how: str) -> None:
    """Rastegari et al. 2016: the sign's gradient is that of x where it is within one, behind a BatchNorm."""
    edit, values = BinarizeInput("fc", scale=0.8, centre=0.5), torch.tensor([[-2.0, -0.4, 0.4, 0.6, 1.4, 1.6]])
    layer, values = nn.Linear(6, 1), values.requires_grad_()
    grid = InputQuantizer(edit) if how == "no" else LearnedInput(edit, how, learn_offset=True)
    ((rounded,), _) = grid(layer, (values,), {})
    torch.testing.assert_close(rounded.detach(), torch.tensor([[-0.3, -0.3, -0.3, 1.3, 1.3, 1.3]]))
    (rounded * torch.tensor([1.0, 1, 1, 1, 1, 2])).sum().backward()
    assert values.grad is not None
    torch.testing.assert_close(values.grad, torch.tensor([[0.0, 1, 1, 1, 1, 0]]))
    if isinstance(grid, LearnedInput):
        assert grid.scale.grad is not None
        assert grid.centre.grad is not None
        assert float(grid.scale.grad) == pytest.approx((4 - 3) / math.sqrt(6))  # the signs, by how much they count
        assert float(grid.centre.grad) == pytest.approx((1 + 2) / math.sqrt(6))  # what lies beyond


@pytest.mark.parametrize("offsets", [False, True])
def test_binary_weights_and_inputs_learn_together(offsets: bool, small_model: Model, small_data: Dataset) -> None:
    before = "- quantize: {format: binary, activations: {mode: binary}}\n"
    recipe = Recipe.parse(
        f"{before}- finetune: {{epochs: 3, batch: 16, augment: none, learning_rate: 0.05, learn_inputs: step, "
        f"learn_offsets: {offsets}}}"
    )
    trained = train(small_model, small_data, recipe, place=Within()).result()
    plain, tuned = compress(small_model, before, small_data), compress(small_model, recipe, small_data)
    for old, new in zip(plain.edits, tuned.edits, strict=True):
        assert isinstance(old, BinarizeInput)
        assert isinstance(new, BinarizeInput)
        assert new.scale != old.scale
        assert (new.centre != old.centre) == offsets
    split = small_data["validation"]
    with torch.no_grad():
        right = (tuned.module(split.images).argmax(1) == split.labels).float().mean()
    assert float(right) == pytest.approx(trained.after.value, abs=0.01)
    assert trained.after.value > trained.before.value + 0.1


def test_frozen_batchnorm_keeps_its_statistics(small_model: Model, small_data: Dataset) -> None:
    settings = {"epochs": 1, "batch": 16, "augment": "none", "batchnorm": "freeze"}
    recipe = Recipe.parse([{"finetune": settings}])
    train(small_model, small_data, recipe, place=Within()).result()
    tuned = compress(small_model, recipe, small_data)
    assert torch.equal(tuned.tensors["norm.running_mean"], small_model.module.state_dict()["norm.running_mean"])
    assert not torch.equal(tuned.tensors["conv.weight"], small_model.module.state_dict()["conv.weight"])
