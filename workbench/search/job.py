"""The search for the best recipe within a budget, as a Job.

1. What every option truly costs, and the divergence it makes, on a first look of few images: a first answer, measured
   in full, is there within seconds.
2. The sweep goes on to more images. The exact answer, the greedy one, the uniform one, and the exact answers next to
   the best are measured in full on the validation split.
3. The foresight is refitted to what was measured, and it is solved again, once.
4. Of all that was measured the best on the validation split is taken, and measured once on the reporting split; so are
   the greedy and the uniform answer, for comparison, when nothing is chosen any more.

``latest`` is what is known so far. Cancelled, it stays valid; started again, what was measured is in the history.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from workbench.analyze.finding import Sensitivity
from workbench.errors import WorkbenchError
from workbench.jobs import Cancelled, Job
from workbench.recipe import Recipe

from .allocation import Allocation, Answer, measured, remark
from .budget import Budget
from .costs import Costs
from .damage import damages, keep, recall, start_sweep
from .foresight import Foresight, Seen
from .options import Plan, plan_for
from .problem import Choice, Problem
from .testbed import Testbed

if TYPE_CHECKING:
    from workbench.run.executor import Executor
    from workbench.session import Session

#: Images of each option in the first look, and in the end.
FIRST, LAST = 64, 256
#: Exact answers measured beside the best: the next best ones.
RUNNERS_UP = 2
#: The split that is searched and chosen on.
SPLIT = "validation"
#: What each stage is of the whole time, about.
STAGES = {"open": 4, "costs": 10, "first": 20, "sweep": 40, "measure": 15, "again": 6, "report": 12}


class AllocationJob(Job[Allocation]):
    """Searches the best recipe of ``session``'s model within ``budget``; ``latest`` is None before the first answer.

    ``methods``: names of ``options.METHODS``, the budget's usual ones where empty. ``base``: the recipe whose other
    settings and steps are kept, the session's unless said. ``locked`` layers keep what they have in it.
    """

    def __init__(
        self,
        session: Session,
        budget: Budget,
        methods: Sequence[str] = (),
        *,
        base: Recipe | None = None,
        locked: Collection[str] = (),
        executor: str | Executor | None = None,
    ) -> None:
        self.session, self.budget, self.executor = session, budget, executor
        self.latest: Allocation | None = None
        self.doing = ""
        base = session.recipe if base is None else base
        session.data[SPLIT]  # said at once where there is none
        super().__init__("allocation", lambda _: _Search(self, tuple(methods), base, tuple(locked)).run())


class _Search:
    """One allocation, on the job's thread."""

    def __init__(self, job: AllocationJob, methods: tuple[str, ...], base: Recipe, locked: tuple[str, ...]) -> None:
        self._job, self._budget = job, job.budget
        self._start = time.monotonic()
        self._methods, self._base, self._locked = methods, base, locked
        self._measured: dict[str, Answer] = {}
        self._first: float | None = None

    def run(self) -> Allocation:
        """Search, publishing what is known on the way."""
        job = self._job
        self._tell("open", 0)
        job.session.give_way(lambda: job.cancelled)
        self._bed = Testbed(job.session, SPLIT, self._check)
        self._plan = plan_for(self._bed.subject, self._budget, self._methods, self._base, self._locked)
        if self._budget.counted == "ms":
            self._bed.learn_latency()
        self._costs = Costs(self._bed, self._plan, self._budget.counted, lambda share: self._tell("costs", share))
        self._require_possible()
        found = self._sweep(FIRST, "first")
        self._foresight = Foresight.of(found, damages(found, self._plan))
        self._publish([self._measure(self._exact()[0])], found)
        found = self._sweep(LAST, "sweep")
        self._foresight = Foresight.of(found, damages(found, self._plan))
        answers = [*self._exact(RUNNERS_UP), *self._simple()]
        for number, answer in enumerate(answers):
            self._tell("measure", number / len(answers))
            self._publish([self._measure(answer)], found)
        self._foresight = self._foresight.learning(self._seen())
        self._tell("again", 0)
        self._publish([self._measure(answer) for answer in self._exact(1)], found)
        return self._report(found)

    def _require_possible(self) -> None:
        """Raise ``WorkbenchError`` where no choice keeps the budget, and name the nearest that can be kept."""
        budget, plan = self._budget, self._plan
        if budget.kind == "drop":
            return
        least = self._least(self._costs, plan)
        if least <= budget.limit:
            return
        by = " and ".join(method.name for method in plan.methods)
        text = f"The budget of {budget.say()} cannot be met by {by}: the nearest that can is {budget.say(least)}"
        if plan.locked:
            free = plan.unlocked()
            unbound = self._least(Costs(self._bed, free, budget.counted), free)
            if unbound <= budget.limit:
                names = ", ".join(plan.locked)
                raise WorkbenchError(f"{text}, with {names} locked; unlocked, {budget.say(unbound)} can be reached.")
        raise WorkbenchError(f"{text}.")

    @staticmethod
    def _least(costs: Costs, plan: Plan) -> float:
        problem = costs.problem(tuple(0 * cost for cost in costs.alone))
        cheapest = problem.cheapest()
        assert cheapest is not None, "every unit has an option"
        return costs.true(cheapest)

    def _sweep(self, images: int, stage: str) -> Sensitivity:
        """Measure every option on about ``images`` images, or take it from the history."""
        history, key, job = self._job.session.history, self._bed.key, self._job
        sweep = start_sweep(self._bed, self._plan, images, recall(history, key, self._plan), job.executor)
        sweep.subscribe(lambda progress: self._tell(stage, progress.share))
        while not sweep.wait(0.1):
            if job.cancelled:
                sweep.cancel()
        if sweep.latest is not None and sweep.latest.known:
            keep(history, key, sweep.latest)
        job.check()
        found = sweep.result()
        keep(history, key, found)
        return found

    def _exact(self, more: int = 0) -> list[Answer]:
        """Return the exact answer and so many of the next best."""
        found: list[Choice] = []

        def solve(problem: Problem, limit: float) -> Choice | None:
            return problem.solve(limit, found)

        problem = self._costs.problem(self._foresight.weighted)
        for _ in range(1 + more):
            self._check()
            choice = self._costs.within(problem, self._budget.limit, solve)
            if choice is None:
                break
            found.append(choice)
        return [self._answer("exact", choice) for choice in found]

    def _simple(self) -> list[Answer]:
        """Return the greedy and the uniform answer, as far as there are."""
        problem = self._costs.problem(self._foresight.weighted)
        found = []
        for by, solve in (("greedy", Problem.greedy), ("uniform", self._uniform)):
            choice = self._costs.within(problem, self._budget.limit, solve)
            if choice is not None:
                found.append(self._answer(by, choice))
        return found

    def _uniform(self, problem: Problem, limit: float) -> Choice | None:
        """Return the least harmful option for all units alike."""
        choices = [self._plan.choice_of(option) for option in self._plan.options]
        fitting = [choice for choice in choices if problem.cost_of(choice) <= limit]
        return min(fitting, key=problem.damage_of, default=None)

    def _answer(self, by: str, choice: Choice) -> Answer:
        foresight = self._foresight
        return Answer(
            by, choice, self._plan.recipe(choice), foresight.accuracy(choice), foresight.divergence(choice),
            self._costs.true(choice),
        )  # fmt: skip

    def _measure(self, answer: Answer) -> Answer:
        """Return the answer with its measurement in full on the validation split."""
        snapshot = self._bed.measure(answer.recipe)
        divergence = self._bed.divergence(answer.recipe)
        known = measured(answer, snapshot, divergence, self._budget.counted)
        before = self._measured.get(f"{answer.by} {answer.recipe.hash}")
        if before is None:  # what was foreseen first counts: the refitted foresight knows the answer
            self._measured[f"{answer.by} {answer.recipe.hash}"] = known
        return before or known

    def _seen(self) -> tuple[Seen, ...]:
        base = self._bed.baseline.accuracy
        assert base is not None
        unique = {answer.choice: answer for answer in self._measured.values()}
        return tuple(
            Seen(choice, answer.diverged or 0.0, base.value - answer.accuracy) for choice, answer in unique.items()
        )

    def _best(self) -> Answer:
        """Return the best of the exact answers on the validation split; of equals, the least divergent one."""
        exact = [answer for answer in self._measured.values() if answer.by == "exact"]
        return max(exact, key=lambda answer: (answer.accuracy, -(answer.diverged or 0.0)))

    def _last(self, by: str) -> Answer | None:
        return next((answer for answer in reversed(self._measured.values()) if answer.by == by), None)

    def _report(self, found: Sensitivity) -> Allocation:
        """Measure the winner once on the reporting split, and beside it the greedy and the uniform answer."""
        self._tell("report", 0)
        session = self._job.session
        latest = self._allocation(found)
        bed = Testbed(session, session.split.name, self._check)
        latest = replace(latest, baseline=bed.baseline, best=self._reported(bed, latest.best))
        self._job.latest = latest
        self._tell("report", 0.5)
        latest = replace(
            latest,
            greedy=latest.greedy and self._reported(bed, latest.greedy),
            uniform=latest.uniform and self._reported(bed, latest.uniform),
            seconds=time.monotonic() - self._start,
            done=True,
        )
        self._job.latest = latest
        return latest

    def _reported(self, bed: Testbed, answer: Answer) -> Answer:
        return replace(answer, reported=bed.measure(answer.recipe))

    def _publish(self, answers: list[Answer], found: Sensitivity) -> None:
        if answers and self._first is None:
            self._first = time.monotonic() - self._start
        self._job.latest = self._allocation(found)
        self._job.advance(self._job.progress.done)

    def _allocation(self, found: Sensitivity) -> Allocation:
        best, greedy, uniform = self._best(), self._last("greedy"), self._last("uniform")
        shown = [("the best", best), ("greedy", greedy), ("uniform", uniform)]
        remarks = [remark(answer, title[0].upper() + title[1:]) for title, answer in shown if answer]
        return Allocation(
            self._budget, tuple(method.name for method in self._plan.methods), self._plan.locked, self._bed.baseline,
            best, greedy, uniform, tuple(self._measured.values()), tuple(filter(None, remarks)), int(found.n.min()),
            self._first, time.monotonic() - self._start,
        )  # fmt: skip

    def _check(self) -> None:
        self._job.check()
        if self._job.session.closed:
            raise Cancelled

    def _tell(self, stage: str, share: float) -> None:
        names = list(STAGES)
        before = sum(STAGES[name] for name in names[: names.index(stage)])
        self._job.doing = stage
        self._job.advance(before + share * STAGES[stage], sum(STAGES.values()))
