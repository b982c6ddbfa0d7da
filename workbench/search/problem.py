"""The multiple-choice knapsack: of each unit's options take one, so that the damage is least within a budget.

A *unit* is what is decided as one: a layer, or layers whose channels go together. An *option* is one way to compress
it. Each option has a damage and a cost, and both are added over the units; where two units meet in one layer (one
makes the channels that the other reads), the cost of their options has a part that depends on both.

*Exact.* An integer program (HiGHS, by ``scipy.optimize.milp``): a binary variable for each option, one of each unit's
taken. A cost of two units is a variable for each pair of options, tied by its sums to the options' own, so that it is
a product without being written as one. What the solver's tolerance lets through, a sum above the budget, is forbidden
and solved again, so that the budget holds to the last byte.

*Greedy.* From the mildest options on, the step that costs least damage for what it saves, until the budget is met.
*Uniform.* The same option for every unit: what people do without a search.

Sources: Sinha and Zoltners 1979, "The Multiple-Choice Knapsack Problem"; Glover and Woolsey 1974 (products of
binaries); Huangfu and Hall 2018 (HiGHS).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.errors import WorkbenchError

Floats = NDArray[np.float64]
#: The option taken of each unit, by number.
Choice = tuple[int, ...]

#: What the worst choice's damage is scaled to: HiGHS stops within 1e-6 of the optimum.
_SCALE = 1e5
#: Choices that the solver's tolerance may let through, before it is given up.
_CUTS = 50


@dataclass(frozen=True)
class Pair:
    """What two units cost together beyond each alone: ``cost`` ``(options of first, options of second)``."""

    first: int
    second: int
    cost: Floats


@dataclass(frozen=True, eq=False)
class Problem:
    """``damage`` and ``cost``: an array ``(options,)`` for each unit; ``fixed`` is what costs whatever is chosen.

    Infinite damage forbids an option. Raises ``WorkbenchError`` where a unit has no option left.
    """

    damage: tuple[Floats, ...]
    cost: tuple[Floats, ...]
    fixed: float = 0.0
    pairs: tuple[Pair, ...] = field(default=())

    def __post_init__(self) -> None:
        for damage, cost in zip(self.damage, self.cost, strict=True):
            if len(damage) != len(cost) or not np.isfinite(damage).any() or not np.isfinite(cost).all():
                raise WorkbenchError("Every unit needs an option of finite damage, and every option a finite cost.")

    @property
    def units(self) -> int:
        """How many units there are."""
        return len(self.damage)

    def damage_of(self, choice: Choice) -> float:
        """Return the damage of ``choice``."""
        return float(sum(damage[option] for damage, option in zip(self.damage, choice, strict=True)))

    def cost_of(self, choice: Choice) -> float:
        """Return the cost of ``choice``, the fixed part included."""
        alone = sum(cost[option] for cost, option in zip(self.cost, choice, strict=True))
        return float(
            self.fixed + alone + sum(pair.cost[choice[pair.first], choice[pair.second]] for pair in self.pairs)
        )

    def solve(self, budget: float, forbidden: Sequence[Choice] = ()) -> Choice | None:
        """Return the choice of least damage that costs at most ``budget``, None where there is none.

        ``forbidden`` choices are left out.
        """
        weights = np.concatenate(self.damage)
        return self._search(weights, self._costs, budget - self.fixed, list(forbidden), self.cost_of, budget)

    def cheapest(self, damage: float = np.inf) -> Choice | None:
        """Return the choice of least cost whose damage is at most ``damage``, None where there is none."""
        weights = np.concatenate(self.damage)
        if np.isinf(damage):
            damage = float(sum(part[np.isfinite(part)].max() for part in self.damage))
        padded = np.concatenate([weights, np.zeros(len(self._costs) - len(weights))])
        return self._search(self._costs, padded, damage, [], self.damage_of, damage)

    def greedy(self, budget: float) -> Choice | None:
        """Return the choice that greedy steps lead to, None where they end above the budget."""
        choice = [int(np.argmin(damage)) for damage in self.damage]
        spent = self.cost_of(tuple(choice))
        while spent > budget:
            best: tuple[float, int, int, float] | None = None
            for unit, damage in enumerate(self.damage):
                for option in np.flatnonzero(np.isfinite(damage)):
                    trial = (*choice[:unit], int(option), *choice[unit + 1 :])
                    saved = spent - self.cost_of(trial)
                    if saved <= 0:
                        continue
                    price = (damage[option] - damage[choice[unit]]) / min(saved, spent - budget)
                    if best is None or price < best[0]:
                        best = float(price), unit, int(option), saved
            if best is None:
                return None
            choice[best[1]] = best[2]
            spent -= best[3]
        return tuple(choice)

    @cached_property
    def _costs(self) -> Floats:
        return np.concatenate([*self.cost, *(pair.cost.ravel() for pair in self.pairs)])

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *np.cumsum([len(cost) for cost in self.cost]).tolist()]

    def _search(
        self, objective: Floats, limited: Floats, room: float, cuts: list[Choice], value: Any, limit: float
    ) -> Choice | None:
        """Return the choice of least ``objective`` whose ``limited`` sum is at most ``room``; ``value`` checks it."""
        for _ in range(_CUTS):
            choice = self._solve_once(objective, limited, room, cuts)
            if choice is None or value(choice) <= limit:
                return choice
            cuts = [*cuts, choice]
        return None

    def _solve_once(self, objective: Floats, limited: Floats, room: float, cuts: list[Choice]) -> Choice | None:
        from scipy.optimize import Bounds, LinearConstraint, milp

        columns = len(self._costs)
        wanted = np.zeros(columns)
        wanted[: len(objective)] = objective
        upper = np.where(np.isfinite(wanted), 1.0, 0.0)
        upper[: self._starts[-1]] = np.minimum(upper[: self._starts[-1]], np.isfinite(np.concatenate(self.damage)))
        wanted = np.where(np.isfinite(wanted), wanted, 0.0)
        binary = np.zeros(columns)
        binary[: self._starts[-1]] = 1
        spread = np.abs(np.where(np.isfinite(limited), limited, 0.0)).max(initial=0.0) or 1.0
        row = np.where(np.isfinite(limited), limited, 0.0) / spread
        matrix, right = self._ties()
        rules = [LinearConstraint(matrix, right, right), LinearConstraint(row[None], -np.inf, room / spread)]
        rules += [LinearConstraint(self._cut(cut, columns)[None], -np.inf, self.units - 1) for cut in cuts]
        # in this order: the inverse of the least float is none
        scaled = wanted / (np.abs(wanted).max(initial=0.0) or 1.0) * _SCALE
        found = milp(scaled, integrality=binary, bounds=Bounds(0, upper), constraints=rules, options={"mip_rel_gap": 0})
        if found.x is None:
            return None
        return tuple(
            int(np.argmax(found.x[start:stop])) for start, stop in zip(self._starts, self._starts[1:], strict=False)
        )

    def _ties(self) -> tuple[Any, Floats]:
        """Return the equations: one option of each unit, and the pairs' sums are the options of each side."""
        from scipy.sparse import lil_array

        count = self.units + sum(sum(pair.cost.shape) for pair in self.pairs)
        matrix = lil_array((count, len(self._costs)))
        right = np.zeros(count)
        for unit in range(self.units):
            matrix[[unit], self._starts[unit] : self._starts[unit + 1]] = 1
            right[unit] = 1
        at, row = self._starts[-1], self.units
        for pair in self.pairs:
            places = at + np.arange(pair.cost.size).reshape(pair.cost.shape)
            for unit, sums in ((pair.first, places), (pair.second, places.T)):
                for option, members in enumerate(sums):
                    matrix[[row], members] = 1
                    matrix[row, self._starts[unit] + option] = -1
                    row += 1
            at += pair.cost.size
        return matrix.tocsr(), right

    def _cut(self, choice: Choice, columns: int) -> Floats:
        row = np.zeros(columns)
        for start, option in zip(self._starts, choice, strict=False):
            row[start + option] = 1
        return row
