"""What each option truly costs: bytes that were encoded, kernels that would run, multiply-accumulates.

An option's cost is what the whole model costs with it less what it costs without; nothing is estimated from formulas.
Where channels go, layers change on either side, so that what two units cost together is found too, for those that meet
in a layer. Once a whole recipe is chosen its own cost is found, and what the sum was off by (a file has one header) is
put into the problem's fixed part, until the recipe keeps the budget.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from workbench.errors import WorkbenchError
from workbench.recipe import Recipe

from .budget import Kind
from .options import Option, Plan, Unit
from .problem import Choice, Floats, Pair, Problem

if TYPE_CHECKING:
    from workbench.snapshot import Snapshot

    from .testbed import Testbed

#: Rounds in which a sum of costs is brought to the whole's own.
ROUNDS = 8


def cost_of(snapshot: Snapshot, kind: Kind) -> float:
    """Return what a setting costs; raises ``WorkbenchError`` where that cannot be told."""
    size, latency = snapshot.size, snapshot.latency
    assert size is not None
    if kind == "ms":
        if latency is None:
            raise WorkbenchError("The latency of this model cannot be predicted here, so it cannot be a budget.")
        return latency.ms
    if kind == "runtime_bytes":
        if size.runtime_bytes is None:
            raise WorkbenchError("This model cannot be written as ONNX, so a runtime's file cannot be a budget.")
        return float(size.runtime_bytes)
    if kind == "macs":
        return float(sum(layer.macs for layer in snapshot.layers))
    return float(size.bytes)


class Costs:
    """The costs of a plan's options in one ``kind``; ``told`` is called with the share that is done."""

    def __init__(self, bed: Testbed, plan: Plan, kind: Kind, told: Callable[[float], None] = lambda _: None) -> None:
        self._bed, self._plan, self._kind = bed, plan, kind
        self.dense = self._cost(Recipe())
        work = [(unit, option) for unit in plan.units for option in unit.options]
        found: dict[tuple[str, Option], float] = {}
        for number, (unit, option) in enumerate(work):
            found[unit.name, option] = self._cost(plan.alone(unit, option)) - self.dense
            told(number / len(work))
        self.alone = tuple(np.array([found[unit.name, option] for option in unit.options]) for unit in plan.units)
        self.pairs = tuple(self._pairs())

    def problem(self, damage: tuple[Floats, ...]) -> Problem:
        """Return the problem with these costs."""
        return Problem(damage, self.alone, self.dense, self.pairs)

    def true(self, choice: Choice) -> float:
        """Return what the recipe of ``choice`` costs as a whole."""
        return self._cost(self._plan.recipe(choice))

    def of(self, recipe: Recipe) -> float:
        """Return what any recipe costs."""
        return self._cost(recipe)

    def within(
        self, problem: Problem, budget: float, solve: Callable[[Problem, float], Choice | None]
    ) -> Choice | None:
        """Return what ``solve`` finds whose recipe truly costs at most ``budget``; None where there is none.

        Where the sum of the parts is off, the fixed part is corrected and it is solved again, so that the budget is
        neither overdrawn nor left unused.
        """
        best: Choice | None = None
        seen: set[Choice] = set()
        for _ in range(ROUNDS):
            choice = solve(problem, budget)
            if choice is None:
                break
            true = self.true(choice)
            if true <= budget and (best is None or problem.damage_of(choice) < problem.damage_of(best)):
                best = choice
            if choice in seen:
                if best is not None:
                    break
                problem = replace(problem, fixed=problem.fixed + max(1.0, true - budget))
                continue
            seen.add(choice)
            problem = replace(problem, fixed=problem.fixed + true - problem.cost_of(choice))
        return best

    def _cost(self, recipe: Recipe) -> float:
        return cost_of(self._bed.outline(recipe), self._kind)

    def _pairs(self) -> list[Pair]:
        """Return what units that meet in a layer cost together beyond the sum of both alone."""
        units = self._plan.units
        meeting = self._meeting()
        found = []
        for first, second in combinations(range(len(units)), 2):
            if not meeting[first] & meeting[second]:
                continue
            both = np.array(
                [
                    [self._together(units[first], one, units[second], other) for other in units[second].options]
                    for one in units[first].options
                ]
            )
            extra = both - self.dense - self.alone[first][:, None] - self.alone[second][None]
            if np.abs(extra).max() > 0:
                found.append(Pair(first, second, extra))
        return found

    def _together(self, first: Unit, one: Option, second: Unit, other: Option) -> float:
        return self._cost(self._plan.both(first, one, second, other))

    def _meeting(self) -> list[set[str]]:
        """Return for each unit the layers that change with it; none where units are single layers."""
        if all(method.name != "channels" for method in self._plan.methods):
            return [set() for _ in self._plan.units]
        groups = self._bed.subject.channels.groups
        touched: list[set[str]] = []
        for unit in self._plan.units:
            members = [
                member
                for group in groups
                if any(maker.layer in unit.layers for maker in group.producers)
                for member in group.members
            ]
            touched.append({member.layer for member in members})
        return touched
