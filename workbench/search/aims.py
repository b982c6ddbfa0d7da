"""What is sought: the least harm within a cost, or the least cost within a loss of accuracy.

Either way an answer is found by one of three solvers (exact, greedy, uniform) on the options' foreseen divergences, and
measured. A cost is known before anything is run. A loss is not: there the divergence that is foreseen to keep it is
corrected by what was measured, until the smallest model that keeps it is bracketed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from .allocation import Answer, lost_by
from .budget import Budget
from .costs import Costs
from .foresight import Foresight
from .options import Plan
from .problem import Choice, Problem
from .repairs import repaired

#: Ways to solve: ours first, then what it is compared with.
SOLVERS = ("exact", "greedy", "uniform")
#: A loss is bracketed once the divergences that keep and break it are this near.
NEAR = 1.05
#: Choices that are tried until one keeps the budget with a repair.
TRIES = 4
#: Halvings in which a solver for costs finds the least cost within a divergence.
HALVINGS = 12


class Aim(Protocol):
    """Finds answers and measures them, by what ``foresight`` knows."""

    foresight: Foresight

    def find(self, by: str, count: int) -> Iterator[Answer]:
        """Yield measured answers of one of ``SOLVERS``, ``count`` at most, the first one the solver's own best."""

    def repair(self, answer: Answer, repair: str) -> Answer | None:
        """Return the answer, or one near it, measured with one of ``repairs``; None where none keeps the budget."""

    def keeps(self, answer: Answer) -> bool:
        """Whether a measured answer keeps the budget."""

    def rank(self, answer: Answer) -> tuple[float, ...]:
        """Return what the best answer is the largest in."""


@dataclass
class Ground:
    """What both aims stand on; ``measure`` runs an answer on the whole validation split."""

    plan: Plan
    costs: Costs
    budget: Budget
    measure: Callable[[Answer], Answer]

    def answer(self, by: str, choice: Choice, foresight: Foresight) -> Answer:
        """Return a choice as an answer that is not measured yet."""
        predicted, divergence = foresight.accuracy(choice), foresight.divergence(choice)
        return Answer(by, choice, self.plan.recipe(choice), predicted, divergence, self.costs.true(choice))

    def uniform(self, problem: Problem, limit: float) -> Choice | None:
        """Return the least harmful option for all units alike that costs at most ``limit``."""
        choices = [self.plan.choice_of(option) for option in self.plan.options]
        fitting = [choice for choice in choices if problem.cost_of(choice) <= limit]
        return min(fitting, key=problem.damage_of, default=None)


class LeastHarm:
    """The least divergence at a cost within the budget; of what was measured, the most accurate."""

    def __init__(self, ground: Ground, foresight: Foresight) -> None:
        self._ground, self.foresight = ground, foresight

    def find(self, by: str, count: int) -> Iterator[Answer]:
        """Yield the answer, and the next best ones (of exact answers only)."""
        ground, found = self._ground, list[Choice]()
        problem = ground.costs.problem(self.foresight.weighted)
        for _ in range(count if by == "exact" else 1):
            choice = ground.costs.within(problem, ground.budget.limit, self._solver(by, found))
            if choice is None and by == "exact" and not found:
                choice = ground.costs.cheapest(problem, ground.budget.limit)
            if choice is None:
                return
            found.append(choice)
            yield ground.measure(ground.answer(by, choice, self.foresight))

    def repair(self, answer: Answer, repair: str) -> Answer | None:
        """Return an answer of the same solver that keeps the budget with the repair, which may cost a little too."""
        ground = self._ground
        problem, limit, choice = ground.costs.problem(self.foresight.weighted), ground.budget.limit, answer.choice
        for _ in range(TRIES):
            recipe = repaired(ground.plan.recipe(choice), repair)
            cost = ground.costs.of(recipe)
            if cost <= ground.budget.limit:
                plain = ground.answer(answer.by, choice, self.foresight)
                return ground.measure(replace(plain, recipe=recipe, repair=repair, cost=cost))
            limit -= cost - ground.budget.limit
            found = ground.costs.within(problem, limit, self._solver(answer.by, []))
            if found is None:
                break
            choice = found
        return None

    def _solver(self, by: str, forbidden: list[Choice]) -> Callable[[Problem, float], Choice | None]:
        """Return one of ``SOLVERS``; the exact one leaves out what is ``forbidden``."""
        if by == "exact":
            return lambda problem, limit: problem.solve(limit, forbidden)
        return Problem.greedy if by == "greedy" else self._ground.uniform

    def keeps(self, answer: Answer) -> bool:
        """Whether the true cost is within the budget: every answer's is."""
        return answer.cost <= self._ground.budget.limit

    def rank(self, answer: Answer) -> tuple[float, ...]:
        """Accuracy first; of equals the least divergent one."""
        return answer.accuracy, -(answer.diverged or 0.0)


class LeastCost:
    """The smallest model that loses no more accuracy on the validation split than the budget allows."""

    def __init__(self, ground: Ground, foresight: Foresight) -> None:
        self._ground, self.foresight = ground, foresight

    def find(self, by: str, count: int) -> Iterator[Answer]:
        """Yield answers that close in on the loss allowed, from either side; more than ``count`` until one keeps it."""
        ground = self._ground
        problem = ground.costs.problem(self.foresight.weighted)
        least = sum(float(damage.min()) for damage in problem.damage)  # what locked layers do
        limit = max(self.foresight.affordable(ground.budget.limit), least * (1 + 1e-9))
        kept, broken = 0.0, float("inf")
        any_kept = False
        seen: set[Choice] = set()
        for number in range(count + HALVINGS):
            choice = self._solve(by, problem, limit)
            if choice is None or choice in seen:
                return
            seen.add(choice)
            answer = ground.measure(ground.answer(by, choice, self.foresight))
            yield answer
            divergence = problem.damage_of(choice)
            if self.keeps(answer):
                any_kept, kept = True, max(kept, divergence)
            else:
                broken = min(broken, divergence)
            if any_kept and (number + 1 >= count or broken <= NEAR * kept):
                return
            limit = 2 * kept if broken == float("inf") else (kept + broken) / 2

    def repair(self, answer: Answer, repair: str) -> Answer | None:
        """Return the answer with the repair."""
        recipe = repaired(answer.recipe, repair)
        cost = self._ground.costs.of(recipe)
        return self._ground.measure(replace(answer, recipe=recipe, repair=repair, cost=cost))

    def keeps(self, answer: Answer) -> bool:
        """Whether the loss measured on the validation split is within the budget."""
        return lost_by(answer, self.foresight.baseline.value) <= self._ground.budget.limit + 1e-12

    def rank(self, answer: Answer) -> tuple[float, ...]:
        """Those that keep the budget first, the smallest of them; else the one that loses least."""
        if self.keeps(answer):
            return 1.0, -answer.cost, answer.accuracy
        return 0.0, answer.accuracy, -answer.cost

    def _solve(self, by: str, problem: Problem, limit: float) -> Choice | None:
        """Return the cheapest choice of one solver whose divergence is at most ``limit``."""
        if by == "exact":
            return problem.cheapest(limit)
        if by == "uniform":
            choices = [self._ground.plan.choice_of(option) for option in self._ground.plan.options]
            fitting = [choice for choice in choices if problem.damage_of(choice) <= limit]
            return min(fitting, key=problem.cost_of, default=None)
        low, high = 0.0, problem.cost_of(tuple(int(damage.argmin()) for damage in problem.damage))
        best: Choice | None = None
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            choice = problem.greedy(middle)
            if choice is not None and problem.damage_of(choice) <= limit:
                best, high = choice, middle
            else:
                low = middle
        return best
