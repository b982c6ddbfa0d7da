"""Bits learned under a budget: the file fits to the byte, and layers that need more bits get them."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch

from workbench.compression import compress, context_for, draft_for
from workbench.data.dataset import Dataset
from workbench.errors import WorkbenchError
from workbench.models.model import Model
from workbench.recipe import Recipe
from workbench.subject import Subject
from workbench.techniques.storage import Codes
from workbench.train.explicit import explicit_bits
from workbench.train.jobs.job import train
from workbench.train.jobs.process import Within
from workbench.train.method import Moment
from workbench.train.methods import METHODS
from workbench.train.methods.learn_bits import LearnBits, ManyGrids, grids_of, room_of
from workbench.train.student import Student

FAST: dict[str, Any] = {"epochs": 2, "batch": 16, "augment": "none", "learning_rate": 0.01}


def student_of(model: Model, data: Dataset, **settings: Any) -> tuple[Student, LearnBits]:
    recipe = Recipe.parse([{"learn_bits": {**FAST, **settings}}])
    (step,) = recipe.steps
    subject = Subject.of(model, (1, 8, 8))
    draft = draft_for(subject, Recipe(), context_for(model, data))
    method = METHODS["learn_bits"](step.settings)
    assert isinstance(method, LearnBits)
    layers: Any = step.resolve(draft.layers)
    student = Student.of(draft, method, layers)
    method.prepare(student, draft, subject, recipe)
    return student, method


@pytest.mark.parametrize("max_bytes", [850, pytest.param(1000, marks=pytest.mark.slow)])
def test_what_was_trained_fits_the_budget(max_bytes: int, small_model: Model, small_data: Dataset) -> None:
    recipe = Recipe.parse([{"learn_bits": {**FAST, "max_bytes": max_bytes}}])
    after = train(small_model, small_data, recipe, place=Within()).result().after.value
    compressed = compress(small_model, recipe, small_data)
    assert compressed.nbytes <= max_bytes
    assert compressed.nbytes > max_bytes - 100  # and what there is is used
    assert all(isinstance(compressed.stored[name], Codes) for name in ("conv.weight", "fc.weight"))
    split = small_data["validation"]
    with torch.no_grad():
        right = (compressed.module(split.images).argmax(1) == split.labels).float().mean()
    assert float(right) == pytest.approx(after, abs=0.01)
    assert after > 0.9
    spelled = explicit_bits(recipe, compressed)
    step = spelled.steps[0]
    assert step.technique == "quantize"
    bits: dict[str, Any] = step.resolve(["conv", "fc"])
    assert {name: chosen.bits for name, chosen in bits.items()} == {
        layer.name: layer.bits for layer in compressed.layers
    }
    assert [step.technique for step in spelled.steps] == ["quantize", "finetune"]


def test_the_choice_is_the_one_most_probably_enough_that_fits(small_model: Model, small_data: Dataset) -> None:
    """Against all choices, tried one by one."""
    student, method = student_of(small_model, small_data, max_bytes=900)
    parts = grids_of(student)
    chance = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for part in parts.values():
            part.preference.normal_(0, 2, generator=chance)
    method.before_step(student, None, Moment(50, 100, 10))
    scores = [part.preference.detach().softmax(0).cumsum(0).log() for part in parts.values()]
    fitting = {
        choice: float(sum(score[place] for score, place in zip(scores, choice, strict=True)))
        for choice in product(range(7), repeat=2)
        if sum(float(part.costs[place]) for part, place in zip(parts.values(), choice, strict=True)) <= room_of(student)
    }
    assert 0 < len(fitting) < 49
    assert tuple(int(part.chosen) for part in parts.values()) == max(fitting, key=lambda choice: fitting[choice])
    assert method.finished(Moment(51, 100, 10))


def test_preferences_learn_what_the_loss_and_the_bytes_say(small_model: Model, small_data: Dataset) -> None:
    """The gradient of a preference is that of the softmax over grids; the penalty is the share beyond the budget."""
    student, method = student_of(small_model, small_data, max_bytes=850, strength=2.0)
    part = grids_of(student)["fc.weight"]
    gradient = torch.randn(3, 128, generator=torch.Generator().manual_seed(0))
    (part() * gradient).sum().backward()
    values = part.inner()
    grids = [grid.retrained({"": values.detach()}).decode() for grid in part.grids]
    along = torch.stack([(grid * gradient).sum() for grid in grids])
    assert part.preference.grad is not None
    torch.testing.assert_close(part.preference.grad, (along - along.mean()) / 7, rtol=1e-3, atol=1e-5)
    expected = sum(float(part.costs.mean()) for part in grids_of(student).values())
    penalty = method.penalty(student, Moment(0, 100, 10))
    assert penalty is not None
    assert float(penalty.detach()) == pytest.approx(2 * (expected / room_of(student) - 1), rel=1e-4)


@pytest.mark.parametrize("important", ["conv.weight", "fc.weight"])
def test_a_layer_whose_rounding_matters_gets_the_bits(important: str, small_model: Model, small_data: Dataset) -> None:
    student, method = student_of(small_model, small_data, max_bytes=880)
    parts = grids_of(student)
    wanted = {name: part.inner().detach().clone() for name, part in parts.items()}
    optimizer = torch.optim.Adam([part.preference for part in parts.values()], 0.1)
    for step in range(60):
        optimizer.zero_grad()
        errors = [(1e4 if name == important else 0.01) * (part() - wanted[name]).square().mean()
                  for name, part in parts.items()]  # fmt: skip
        penalty = method.penalty(student, Moment(step, 200, 20))
        assert penalty is not None
        (torch.stack(errors).sum() + penalty).backward()
        optimizer.step()
    method.before_step(student, None, Moment(100, 200, 20))
    bits = {name: part.grids[int(part.chosen)].bits for name, part in parts.items()}
    assert bits == (
        {"conv.weight": 8, "fc.weight": 4} if important == "conv.weight" else {"conv.weight": 4, "fc.weight": 5}
    )


def test_a_budget_that_nothing_fits_is_refused_in_a_sentence(small_model: Model, small_data: Dataset) -> None:
    with pytest.raises(WorkbenchError, match="file of 300 bytes can't be reached: with the fewest bits in every"):
        student_of(small_model, small_data, max_bytes=300)
    with pytest.raises(WorkbenchError, match="nothing to choose between 4 and 4 bits"):
        Recipe.parse("- learn_bits: {fewest: 4, most: 4}")
    recipe = Recipe.parse([{"quantize": {"bits": 4}}, {"learn_bits": FAST}])
    with pytest.raises(WorkbenchError, match="found no weights whose bits are open"):
        train(small_model, small_data, recipe, place=Within()).result()


def test_pruned_weights_stay_zero_on_every_grid(small_model: Model, small_data: Dataset) -> None:
    draft = draft_for(
        Subject.of(small_model, (1, 8, 8)), Recipe.parse("- prune: {ratio: 0.5}"), context_for(small_model, small_data)
    )
    (step,) = Recipe.parse([{"learn_bits": FAST}]).steps
    layers: Any = step.resolve(draft.layers)
    student = Student.of(draft, METHODS["learn_bits"](step.settings), layers)
    for name, part in student.parts():
        if isinstance(part, ManyGrids):
            gone = draft.zeroed[name] == 0
            assert gone.any()
            assert (part()[gone] == 0).all()
