"""Masks from scores that learn, and filters that a small network finds worth keeping."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from workbench.compressed import CompressedModel
from workbench.compression import compress, context_for, draft_for
from workbench.data.dataset import Dataset
from workbench.errors import WorkbenchError
from workbench.models.load import load_model
from workbench.models.model import Model
from workbench.recipe import Recipe
from workbench.subject import Subject
from workbench.train.constraints.base import Constraint
from workbench.train.constraints.predictor import FilterGates, Predictor, choose
from workbench.train.jobs.job import train
from workbench.train.jobs.process import Within
from workbench.train.method import Moment
from workbench.train.methods import METHODS
from workbench.train.methods.learn_scores import Scored
from workbench.train.methods.predict_filters import gates_of
from workbench.train.student import Student

FAST: dict[str, Any] = {"epochs": 3, "batch": 16, "augment": "none", "learning_rate": 0.01}


def trained(model: Model, data: Dataset, *steps: dict[str, Any]) -> tuple[CompressedModel, float]:
    recipe = Recipe.parse([{name: {**FAST, **fields} for name, fields in step.items()} for step in steps])
    after = train(model, data, recipe, place=Within()).result().after.value
    return compress(model, recipe, data), after


def student_of(model: Model, data: Dataset, step: dict[str, Any], before: str = "[]") -> tuple[Student, Any]:
    recipe = Recipe.parse([step])
    subject = Subject.of(model, (1, 8, 8))
    draft = draft_for(subject, Recipe.parse(before), context_for(model, data))
    method = METHODS[recipe.steps[0].technique](recipe.steps[0].settings)  # type: ignore[arg-type]
    layers: Any = recipe.steps[0].resolve(draft.layers)
    student = Student.of(draft, method, layers)
    method.prepare(student, draft, subject, recipe)
    return student, method


# Scores


def test_a_score_learns_by_the_gradient_of_its_weight_times_the_weight() -> None:
    """Ramanujan et al. 2020, equation 5: used or not; a weight itself learns where it is used."""
    part = Scored(Constraint(torch.tensor([2.0, -3.0, 0.5])))
    part.kept.copy_(torch.tensor([True, False, True]))
    gradient = torch.tensor([1.0, 10.0, 100.0])
    values = part()
    assert values.tolist() == [2.0, 0.0, 0.5]
    (values * gradient).sum().backward()
    assert part.score.grad is not None
    assert part.score.grad.tolist() == [2.0, -30.0, 50.0]
    inner = part.inner
    assert isinstance(inner, Constraint)
    assert inner.values.grad is not None
    assert inner.values.grad.tolist() == [1.0, 0.0, 100.0]


def test_weights_that_were_left_out_come_back_by_their_score_but_not_those_pruned_before(
    small_model: Model, small_data: Dataset
) -> None:
    step = {"learn_scores": {**FAST, "ratio": 0.5, "end": 0.1}}
    student, method = student_of(small_model, small_data, step, "- prune: {ratio: 0.25, layers: [fc]}")
    parts: dict[str, Any] = dict(student.parts())
    fc = parts["fc.weight"]
    gone = fc.inner() == 0
    assert gone.float().mean() == pytest.approx(0.25, abs=0.01)
    method.before_step(student, None, Moment(20, 100, 10))
    left_out = ~fc.kept & ~gone
    assert left_out.any()
    with torch.no_grad():
        fc.score.copy_(torch.where(left_out | gone, 10.0, 0.0))
    method.before_step(student, None, Moment(21, 100, 10))
    assert fc.kept[left_out].all()
    assert not fc.kept[gone].any()
    method.before_step(student, None, Moment(81, 100, 10))  # settled: nothing changes any more
    with torch.no_grad():
        fc.score.zero_()
    before = fc.kept.clone()
    method.before_step(student, None, Moment(82, 100, 10))
    assert torch.equal(fc.kept, before)


@pytest.mark.parametrize("weights", [pytest.param("learned", marks=pytest.mark.slow), "frozen"])
def test_learned_scores_leave_the_ratio_out_and_keep_what_matters(
    weights: str, small_model: Model, small_data: Dataset
) -> None:
    step = {"learn_scores": {"ratio": 0.7, "weights": weights, "pace": 5.0, "layers": ["fc"], "epochs": 2}}
    compressed, after = trained(small_model, small_data, step)
    weight, first = compressed.tensors["fc.weight"], small_model.module.state_dict()["fc.weight"]
    kept = weight != 0
    assert float(kept.float().mean()) == pytest.approx(0.3, abs=0.01)
    assert torch.equal(weight[kept], first[kept]) == (weights == "frozen")
    assert after > 0.9


# Filters


def test_the_filters_of_the_least_damage_go_and_each_layer_keeps_its_floor() -> None:
    predictor = Predictor(4, 0)
    gates = {
        name: FilterGates(Constraint(torch.randn(count, 3)), None, predictor, 0.5, 0)
        for name, count in (("a", 3), ("b", 5))
    }
    damages = {"a": torch.tensor([-9.0, -8.0, -7.0]), "b": torch.tensor([1.0, -1.0, 3.0, 0.5, 2.0])}
    for name, gate in gates.items():
        gate.damages = lambda name=name: damages[name]  # type: ignore[method-assign, misc]
    choose(gates, 0.5, 0.0)
    assert gates["a"].kept.tolist() == [False, False, True]
    assert gates["b"].kept.tolist() == [True, False, True, False, True]
    choose(gates, 0.5, 0.6)
    assert gates["a"].kept.tolist() == [False, True, True]
    assert gates["b"].kept.tolist() == [True, False, True, False, True]


@pytest.mark.slow
def test_the_network_learns_what_decisions_do_to_the_loss(small_model: Model, small_data: Dataset) -> None:
    """Three filters are as large as the others, but a ReLU lets nothing of them through."""
    module: Any = small_model.module
    with torch.no_grad():
        module.norm.weight[:3], module.norm.bias[:3] = 0.1, -1.0
    compressed, after = trained(small_model, small_data, {"predict_filters": {"ratio": 0.375, "pace": 20.0}})
    gone = (compressed.tensors["conv.weight"].flatten(1) == 0).all(1)
    assert gone.tolist() == [True] * 3 + [False] * 5
    assert after > 0.9


def test_dropped_filters_give_nothing_and_can_be_taken_out_of_the_structure(
    small_model: Model, small_data: Dataset
) -> None:
    step = {"predict_filters": {**FAST, "ratio": 0.5, "epochs": 1}}
    train(small_model, small_data, Recipe.parse([step]), place=Within()).result()
    masked = compress(small_model, Recipe.parse([step]), small_data)
    gone = (masked.tensors["conv.weight"].flatten(1) == 0).all(1)
    assert int(gone.sum()) == 4
    assert (masked.tensors["norm.weight"][gone] == 0).all()
    assert (masked.tensors["norm.bias"][gone] == 0).all()
    prune = {"prune": {"granularity": "filter", "ratio": 0.5, "multiple": 1}}
    smaller = compress(small_model, Recipe.parse([step, prune]), small_data)
    assert smaller.tensors["conv.weight"].shape[0] == 4
    images = small_data["validation"].images
    with torch.no_grad():
        torch.testing.assert_close(smaller.module(images), masked.module(images))


def test_the_network_predicts_the_damage_that_leaving_a_filter_out_does(
    small_model: Model, small_data: Dataset
) -> None:
    """Against the loss without each filter, measured one by one, on a trained model that stays as it is."""
    good, _ = trained(small_model, small_data, {"finetune": {"epochs": 2, "learning_rate": 0.05}})
    student, method = student_of(load_model(good.module), small_data, {"predict_filters": {"ratio": 0.25, "hidden": 8}})
    (gate,) = gates_of(student).values()
    objective = method.objective(small_model.module)
    objective.watch(student)
    images, labels = small_data["train"].images[:64], small_data["train"].labels[:64]
    predictor: Any = student.helpers["predictor"]
    optimizer = torch.optim.Adam(predictor.parameters(), 0.02)
    torch.manual_seed(0)
    for _ in range(100):
        optimizer.zero_grad()
        objective.loss(student, images, labels).backward()
        optimizer.step()
    student.eval()

    def loss() -> float:
        with torch.no_grad():
            return float(torch.nn.functional.cross_entropy(student(images), labels))

    whole, without = loss(), []
    for filter in range(8):
        with gate.without(torch.tensor([filter])):
            without.append(loss() - whole)
    assert loss() == whole
    predicted = (gate.damages() * predictor.unit).detach()
    assert torch.corrcoef(torch.stack([predicted, torch.tensor(without)]))[0, 1] > 0.7


def test_trials_change_nothing_of_the_model(small_model: Model, small_data: Dataset) -> None:
    student, method = student_of(small_model, small_data, {"predict_filters": {"ratio": 0.25}})
    objective = method.objective(small_model.module)
    objective.watch(student)
    student.train()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    plain = student_of(small_model, small_data, {"finetune": {}})[0].train()
    images, labels = small_data["train"].images[:32], small_data["train"].labels[:32]
    torch.manual_seed(0)
    objective.loss(student, images, labels)
    torch.manual_seed(0)
    plain(images)
    changed = {name for name, value in student.state_dict().items() if not torch.equal(value, before[name])}
    statistics = {f"body.norm.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}
    assert changed == {*statistics, "helpers.predictor.unit"}
    assert torch.equal(student.get_buffer("body.norm.running_mean"), plain.get_buffer("body.norm.running_mean"))
    assert student.body.drop.training


def test_the_last_layers_outputs_are_not_to_go(small_model: Model, small_data: Dataset) -> None:
    with pytest.raises(WorkbenchError, match="found no filters that may go: the last layer keeps its outputs"):
        student_of(small_model, small_data, {"predict_filters": {"layers": ["fc"]}})


def test_layers_without_a_filter_for_each_output_keep_all_of_them(small_data: Dataset) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 8, 1), nn.ReLU(), nn.ConvTranspose2d(8, 8, 3, groups=2), nn.Flatten(), nn.Linear(800, 3)
    )
    student, _ = student_of(load_model(module.eval()), small_data, {"predict_filters": FAST})
    assert list(gates_of(student)) == ["gates 0"]
    fewer = "- prune: {granularity: filter, ratio: 0.5, layers: ['0']}"
    student, _ = student_of(load_model(module.eval()), small_data, {"predict_filters": FAST}, fewer)
    assert list(gates_of(student)) == ["gates 0"]
