"""The exact allocator finds what trying every choice finds, within its budget to the last byte."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import WorkbenchError
from workbench.search.costs import Costs
from workbench.search.problem import Choice, Pair, Problem


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    counts = draw(st.lists(st.integers(1, 4), min_size=1, max_size=6))
    kind = draw(st.sampled_from([st.floats(0, 1e6), st.integers(0, 300_000).map(float), st.floats(0, 3)]))
    damage = tuple(np.array(draw(st.lists(kind, min_size=count, max_size=count))) for count in counts)
    cost = tuple(
        np.array(draw(st.lists(st.integers(0, 300_000).map(float), min_size=count, max_size=count))) for count in counts
    )
    pairs = []
    if len(counts) > 1 and draw(st.booleans()):
        size = counts[0] * counts[1]
        values = draw(st.lists(st.integers(-50_000, 50_000).map(float), min_size=size, max_size=size))
        pairs.append(Pair(0, 1, np.array(values).reshape(counts[0], counts[1])))
    return Problem(damage, cost, float(draw(st.integers(0, 1000))), tuple(pairs))


def every(problem: Problem) -> list[Choice]:
    return list(product(*(range(len(damage)) for damage in problem.damage)))


def spread(problem: Problem) -> float:
    return 1e-9 * max(1.0, max(float(np.abs(damage).max()) for damage in problem.damage))


@settings(max_examples=100)
@given(problems(), st.floats(0, 1))
def test_the_exact_choice_is_the_best_of_all_within_the_budget(problem: Problem, share: float) -> None:
    costs = [problem.cost_of(choice) for choice in every(problem)]
    budget = costs[int(share * (len(costs) - 1))]  # one that some choice spends to the last byte
    best = min(problem.damage_of(choice) for choice in every(problem) if problem.cost_of(choice) <= budget)
    found = problem.solve(budget)
    assert found is not None
    assert problem.cost_of(found) <= budget
    assert problem.damage_of(found) <= best + spread(problem)


@settings(max_examples=40)
@given(problems(), st.floats(0, 1))
def test_the_cheapest_choice_within_a_damage_is_the_cheapest_of_all(problem: Problem, share: float) -> None:
    damages = [problem.damage_of(choice) for choice in every(problem)]
    limit = damages[int(share * (len(damages) - 1))]
    best = min(problem.cost_of(choice) for choice in every(problem) if problem.damage_of(choice) <= limit)
    found = problem.cheapest(limit)
    assert found is not None
    assert problem.damage_of(found) <= limit
    assert problem.cost_of(found) <= best + 1e-6
    least = problem.cheapest()
    assert least is not None
    assert problem.cost_of(least) == pytest.approx(min(problem.cost_of(choice) for choice in every(problem)))


@settings(max_examples=40)
@given(problems(), st.floats(0, 1))
def test_greedy_keeps_the_budget_and_is_never_better_than_exact(problem: Problem, share: float) -> None:
    costs = [problem.cost_of(choice) for choice in every(problem)]
    budget = costs[int(share * (len(costs) - 1))]
    greedy, exact = problem.greedy(budget), problem.solve(budget)
    assert exact is not None
    if greedy is not None:
        assert problem.cost_of(greedy) <= budget + 1e-6
        assert problem.damage_of(exact) <= problem.damage_of(greedy) + spread(problem)


def test_the_least_damage_there_is_can_still_be_compared() -> None:
    problem = Problem(
        (np.array([0.0, 2.3e-308]), np.array([1e-308, 0.0])), (np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    )
    assert problem.solve(1.0) == (0, 0)


def test_a_budget_below_the_cheapest_choice_has_no_answer() -> None:
    problem = Problem((np.array([0.0, 1.0]),), (np.array([10.0, 5.0]),))
    assert problem.solve(4.99) is None
    assert problem.greedy(4.99) is None
    assert problem.solve(5) == (1,)


def test_forbidden_choices_give_the_next_best() -> None:
    problem = Problem((np.array([0.0, 1.0, 3.0]),) * 2, (np.array([10.0, 5.0, 2.0]),) * 2)
    first = problem.solve(15)
    assert first in {(0, 1), (1, 0)}
    second = problem.solve(15, [first])
    assert second in {(0, 1), (1, 0)} - {first}
    assert problem.damage_of(problem.solve(15, [first, second]) or ()) == 2


def test_an_option_of_infinite_damage_is_never_taken() -> None:
    problem = Problem((np.array([1.0, np.inf]), np.array([0.0, 2.0])), (np.array([9.0, 1.0]),) * 2)
    assert problem.solve(10) == (0, 1)
    assert problem.greedy(10) == (0, 1)
    with pytest.raises(WorkbenchError, match="finite"):
        Problem((np.array([np.inf]),), (np.array([1.0]),))


class Wholes(Costs):
    """Costs whose whole is less than the sum of the parts, and the more so the more parts are at their harshest."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    def true(self, choice: Choice) -> float:
        """Return what the choice costs as a whole."""
        return self.problem.cost_of(choice) - 45 + 10 * sum(option < 3 for option in choice)


@pytest.mark.parametrize("budget", [651, 690, 700, 760, 900])
def test_a_budget_between_the_least_whole_and_the_least_sum_is_met(budget: float) -> None:
    """The least sum is 696, the least whole 651; at 690 the next milder choice seems to fit and does not."""
    damage, cost = np.array([1.0, 2, 4, 9]), np.array([448.0, 432, 380, 348])
    problem = Problem((damage, damage), (cost, cost))
    costs = Wholes(problem)
    found = costs.within(problem, budget, Problem.solve)
    assert found is not None
    assert costs.true(found) <= budget
    assert costs.cheapest(problem, 651) == (3, 3)
    assert costs.cheapest(problem, 650) is None
