"""Channels and bits are chosen together: what units cost in pairs is what the file costs, and the answer is exact."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.errors import WorkbenchError
from workbench.models.zoo.resnet import ResNet20
from workbench.search.budget import Budget
from workbench.search.costs import Costs
from workbench.search.job import AllocationJob
from workbench.search.methods import APART
from workbench.search.options import Plan, plan_for
from workbench.search.problem import Problem
from workbench.search.testbed import Testbed
from workbench.session import Session


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    data = wb.load_dataset("fashion_mnist")
    few = {name: data[name].take(torch.arange(200)) for name in data.splits}
    with Session("lenet5", replace(data, splits=few), history=":memory:") as opened:
        opened.measure()
        yield opened


@pytest.fixture(scope="module")
def plan(session: Session) -> Plan:
    return plan_for(session.footing().subject, Budget("bytes", 1), ["channels", "quantize"])


@pytest.fixture(scope="module")
def problem(session: Session, plan: Plan) -> tuple[Costs, Problem]:
    costs = Costs(Testbed(session, "validation", lambda: None), plan, "bytes")
    chance = np.random.default_rng(0)
    harm = tuple(np.sort(chance.exponential(1.0, len(unit.options))) for unit in plan.units)
    return costs, costs.problem(harm)


def test_layers_whose_channels_stay_have_bits_alone(plan: Plan) -> None:
    options = {unit.name: unit.options for unit in plan.units}
    assert options.keys() == {"conv1", "conv2", "fc1", "fc2"}
    assert {option[0] for option in options["fc2"]} == {0.0}
    assert len(options["fc1"]) == 1 + 4 * 5
    recipe = plan.recipe(plan.choice_of((0.5, 4)))
    sliced, quantized = recipe.steps
    assert [sliced.settings_of(name).ratio for name in ("conv1", "fc2")] == [0.5, 0.0]  # type: ignore[attr-defined]
    assert quantized.settings_of("fc2").bits == 4  # type: ignore[attr-defined]


def test_the_sum_of_units_and_pairs_is_the_files_size_but_for_its_header(problem: tuple[Costs, Problem]) -> None:
    costs, sums = problem
    chance = np.random.default_rng(1)
    for _ in range(12):
        choice = tuple(int(chance.integers(len(cost))) for cost in sums.cost)
        assert abs(sums.cost_of(choice) - costs.true(choice)) <= 400


def test_the_exact_answer_is_that_of_brute_force(problem: tuple[Costs, Problem]) -> None:
    _, sums = problem
    axes = [np.expand_dims(cost, tuple(set(range(4)) - {unit})) for unit, cost in enumerate(sums.cost)]
    harms = [np.expand_dims(harm, tuple(set(range(4)) - {unit})) for unit, harm in enumerate(sums.damage)]
    cost, harm = sums.fixed + sum(axes), sum(harms)
    for pair in sums.pairs:
        part = pair.cost if pair.first < pair.second else pair.cost.T
        cost = cost + np.expand_dims(part, tuple(set(range(4)) - {pair.first, pair.second}))
    for share in (0.6, 0.2, 0.08, 0.03):
        budget = share * sums.fixed
        choice = sums.solve(budget)
        assert choice is not None
        assert sums.cost_of(choice) <= budget
        assert sums.damage_of(choice) == pytest.approx(float(np.where(cost <= budget, harm, np.inf).min()), rel=1e-9)


@pytest.mark.slow
def test_an_allocation_by_both_keeps_its_budget_and_is_no_worse_than_everywhere_the_same(session: Session) -> None:
    found = AllocationJob(
        session, Budget("bytes", 60_000), ["channels", "quantize"], repair=False, executor="inline"
    ).result()
    size, uniform = found.best.reported, found.uniform
    assert size is not None
    assert size.size is not None
    assert size.size.bytes <= 60_000
    assert {step.technique for step in found.recipe.steps} <= {"prune", "quantize"}
    assert uniform is None or found.best.accuracy >= uniform.accuracy


def test_tied_layers_share_both_and_it_says_which() -> None:
    torch.manual_seed(0)
    images = torch.rand(60, 1, 28, 28), torch.arange(60) % 10
    with Session(ResNet20(width=4), wb.load_dataset(images), history=":memory:") as session:
        session.measure()
        plan = plan_for(session.footing().subject, Budget("bytes", 1), ["channels", "quantize"])
    assert "take the same ratio and bits" in plan.ties
    assert "conv1, stage1.0.conv2" in plan.ties
    assert plan.units[-1].name == "fc"


@pytest.mark.parametrize("pair", APART)
def test_what_cannot_be_chosen_together_says_why(session: Session, pair: tuple[str, str]) -> None:
    with pytest.raises(WorkbenchError, match=f"'{pair[0]}' and '{pair[1]}' cannot be allocated together, because "):
        plan_for(session.footing().subject, Budget("bytes", 1e4), pair)
