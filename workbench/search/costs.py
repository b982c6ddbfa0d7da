"""What each option truly costs: bytes that were encoded, kernels that would run, multiply-accumulates.

An option's cost is what the whole model costs with it less what it costs without, on top of the recipe's other steps;
nothing is estimated from formulas.
Where channels go, layers change on either side, so that what two units cost together is found too, for those that meet
in a layer. Once a whole recipe is chosen its own cost is found, and what the sum was off by (a file has one header) is
put into the problem's fixed part, until the recipe keeps the budget.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
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
    """The costs of a plan's options in one ``kind``; ``told`` is called with the share that is done.

    ``plain`` is what the model costs where nothing is chosen, the other steps of the recipe included.
    """

    def __init__(self, bed: Testbed, plan: Plan, kind: Kind, told: Callable[[float], None] = lambda _: None) -> None:
        self._bed, self._plan, self._kind = bed, plan, kind
        self._ground = plan.ground
        self.plain = self._cost(self._ground)
        self._known: dict[tuple[str, Option, str, Option], float] = {}
        work = [(unit, option) for unit in plan.units for option in unit.options]
        found: dict[tuple[str, Option], float] = {}
        for number, (unit, option) in enumerate(work):
            found[unit.name, option] = self._cost(plan.alone(unit, option, self._ground)) - self.plain
            told(number / len(work))
        self.alone = tuple(np.array([found[unit.name, option] for option in unit.options]) for unit in plan.units)
        self.pairs = tuple(self._pairs())

    def problem(self, damage: tuple[Floats, ...]) -> Problem:
        """Return the problem with these costs."""
        return Problem(damage, self.alone, self.plain, self.pairs)

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
        neither overdrawn nor left unused. Where nothing is found the sum is brought to the whole of the cheapest choice
        first: calibrated steps, and one header for all, make the model smaller than the sum of its parts.
        """
        best = self._closing_in(problem, budget, solve)
        cheapest = problem.cheapest() if best is None else None
        if cheapest is None:
            return best
        fixed = problem.fixed + self.true(cheapest) - problem.cost_of(cheapest)
        return self._closing_in(replace(problem, fixed=fixed), budget, solve)

    def cheapest(self, problem: Problem, budget: float) -> Choice | None:
        """Return the choice of least cost; None where even that truly costs more than ``budget``."""
        choice = problem.cheapest()
        return choice if choice is not None and self.true(choice) <= budget else None

    def _closing_in(
        self, problem: Problem, budget: float, solve: Callable[[Problem, float], Choice | None]
    ) -> Choice | None:
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
                problem = replace(problem, fixed=problem.fixed + max(0.001 * budget, true - budget))
                continue
            seen.add(choice)
            problem = replace(problem, fixed=problem.fixed + true - problem.cost_of(choice))
        return best

    def _cost(self, recipe: Recipe) -> float:
        if self._kind == "bytes":  # the file's alone, without the latency
            return float(self._bed.compress(recipe).archive.nbytes)
        return cost_of(self._bed.outline(recipe), self._kind)

    def _pairs(self) -> list[Pair]:
        """Return what units that meet in a layer cost together beyond the sum of both alone."""
        units = self._plan.units
        meeting = self._meeting()
        found = []
        for first, second in combinations(range(len(units)), 2):
            if not meeting[first] & meeting[second]:
                continue
            extra = self._extra(first, second)
            if np.abs(extra).max() > 0:
                found.append(Pair(first, second, extra))
        return found

    def _extra(self, first: int, second: int) -> Floats:
        """Return what two units cost together beyond the sum of both alone, for each pair of their options.

        A layer's cost depends on its unit's whole option and on the channels, not on the bits, of what it reads. So
        the extra is the sum of two parts, of either unit's option and the other's channels; each is found with the
        mildest option of these channels, and what is in both is taken off once.
        """
        units = self._plan.units[first], self._plan.units[second]
        mild = [self._mildest(unit) for unit in units]
        ours, theirs = (sorted({*each}) for each in mild)
        rows = self._extras(first, second, range(len(units[0].options)), theirs)
        columns = self._extras(first, second, ours, range(len(units[1].options)))
        by_theirs = rows[:, [theirs.index(place) for place in mild[1]]]
        by_ours = columns[[ours.index(place) for place in mild[0]]]
        return np.asarray(by_theirs + by_ours - columns[[ours.index(place) for place in mild[0]]][:, mild[1]])

    def _mildest(self, unit: Unit) -> list[int]:
        """Return for each option the number of the mildest one with the same channels; itself where that is all."""
        places = [place for place, method in enumerate(self._plan.methods) if method.name == "channels"]
        channels = [tuple(option[place] for place in places) for option in unit.options]
        return [channels.index(each) for each in channels]

    def _extras(self, first: int, second: int, ours: Collection[int], theirs: Collection[int]) -> Floats:
        units = self._plan.units[first], self._plan.units[second]
        both = [
            [
                self._together(units[0], units[0].options[one], units[1], units[1].options[other])
                - self.alone[first][one] - self.alone[second][other]
                for other in theirs
            ]
            for one in ours
        ]  # fmt: skip
        return np.array(both) - self.plain

    def _together(self, first: Unit, one: Option, second: Unit, other: Option) -> float:
        key = first.name, one, second.name, other
        if key not in self._known:
            self._known[key] = self._cost(self._plan.both(first, one, second, other, self._ground))
        return self._known[key]

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
            touched.append({member.layer for member in members} | {*unit.layers})
        return touched
