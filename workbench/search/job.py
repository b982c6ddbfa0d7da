"""The search for the best recipe within a budget, as a Job.

1. What every option truly costs, and the divergence it makes, on a first look of few images: a first answer, measured
   in full, is there within seconds.
2. The sweep goes on to more images. The exact answer, the greedy one, the uniform one, and the exact answers next to
   the best are measured in full on the validation split.
3. The foresight is refitted to what was measured, and it is solved again, once.
4. Repairs that need no training (BatchNorm recalibrated, biases corrected, weights rounded by GPTQ) are tried on the
   best; the one that helps most, on the greedy and the uniform answer too, so that like is compared with like.
5. Of all that was measured, whoever found it, the best on the validation split is taken, and measured once on the
   reporting split; so are the greedy and the uniform answer, for comparison, when nothing is chosen any more.

``latest`` is what is known so far. Cancelled, it stays valid; started again, what was measured is in the history.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from workbench.errors import WorkbenchError
from workbench.jobs import Cancelled, Job
from workbench.recipe import Recipe
from workbench.run.executor import hire

from .aims import SOLVERS, Ground, LeastCost, LeastHarm
from .allocation import Allocation, Answer, lost_by, measured, remark
from .budget import Budget
from .costs import Costs
from .damage import damages, sweep_options
from .foresight import Foresight, Seen
from .methods import without_training
from .options import Plan, plan_for
from .repairs import ROUNDING, repairs_for
from .testbed import Testbed

if TYPE_CHECKING:
    from workbench.run.executor import Executor
    from workbench.session import Session

#: Images of each option in the first look, and in the end.
FIRST, LAST = 64, 256
#: Exact answers that are measured: the best and the next best ones.
CANDIDATES = 3
#: Exact answers behind which repairs are tried.
REPAIRED = 2
#: The split that is searched and chosen on.
SPLIT = "validation"
#: What each stage is of the whole time, about.
STAGES = {"open": 4, "costs": 10, "first": 20, "sweep": 40, "measure": 15, "again": 6, "repair": 20, "report": 15}


class AllocationJob(Job[Allocation]):
    """Searches the best recipe of ``session``'s model within ``budget``; ``latest`` is None before the first answer.

    ``methods``: names of ``options.METHODS``, the budget's usual ones where empty. ``base``: the recipe whose other
    settings and steps are kept, the session's unless said; those that train are left out, which ``untrained`` says.
    ``locked`` layers keep what they have in it. Without ``repair`` no step is added that repairs what was lost.
    """

    def __init__(
        self,
        session: Session,
        budget: Budget,
        methods: Sequence[str] = (),
        *,
        base: Recipe | None = None,
        locked: Collection[str] = (),
        repair: bool = True,
        executor: str | Executor | None = None,
    ) -> None:
        self.session, self.budget, self.repair = session, budget, repair
        self.latest: Allocation | None = None
        self.doing = ""
        base, self.untrained = without_training(session.recipe if base is None else base)
        session.data[SPLIT]  # said at once where there is none, as is a scheduler that does not answer
        search = _Search(self, tuple(methods), base, tuple(locked))
        self.executor, hired = hire(executor)

        def work(_: Job[Allocation]) -> Allocation:
            with hired:
                return search.run()

        super().__init__("allocation", work)


class _Search:
    """One allocation, on the job's thread."""

    def __init__(self, job: AllocationJob, methods: tuple[str, ...], base: Recipe, locked: tuple[str, ...]) -> None:
        self._job, self._budget = job, job.budget
        self._start = time.monotonic()
        self._methods, self._base, self._locked = methods, base, locked
        self._measured: dict[str, Answer] = {}
        self._first: float | None = None
        self._images = 0

    def run(self) -> Allocation:
        """Search, publishing what is known on the way."""
        job, budget = self._job, self._budget
        self._tell("open", 0)
        self._bed = Testbed(job.session, SPLIT, self._check, self._base)
        self._plan = plan_for(self._bed.subject, budget, self._methods, self._base, self._locked)
        if budget.counted == "ms":
            self._bed.learn_latency()
        self._costs = Costs(self._bed, self._plan, budget.counted, lambda share: self._tell("costs", share))
        self._require_possible()
        self._ground, self._beneath = Ground(self._plan, self._costs, budget, self._measure), self._other_steps()
        self._search("exact", 1, self._sweep(FIRST, "first"))
        foresight = self._sweep(LAST, "sweep")
        for number, by in enumerate(SOLVERS):
            self._tell("measure", number / len(SOLVERS))
            self._search(by, CANDIDATES if by == "exact" else 1, foresight)
        self._tell("again", 0)
        self._search("exact", 1, foresight.learning(self._seen()))
        self._repair()
        return self._report()

    def _search(self, by: str, count: int, foresight: Foresight) -> None:
        """Find and measure answers, each published at once."""
        self._aim = aim = (LeastCost if self._budget.kind == "drop" else LeastHarm)(self._ground, foresight)
        for _ in aim.find(by, count):
            if self._first is None:
                self._first = time.monotonic() - self._start
            self._publish()

    def _repair(self) -> None:
        """Try the repairs on the best exact answers; the one that is best, on the greedy and the uniform one too."""
        exact = sorted((each for each in self._measured.values() if each.by == "exact"), key=self._aim.rank)[::-1]
        names = repairs_for(self._bed, exact[0].recipe) if self._job.repair else ()
        tried = [(answer, name) for name in names for answer in exact[: 1 if name in ROUNDING else REPAIRED]]
        for number, (answer, name) in enumerate(tried):
            self._tell("repair", number / len(tried))
            self._aim.repair(answer, name)
            self._publish()
        best = self._best("exact")
        for other in map(self._best, SOLVERS[1:]):
            if best is not None and best.repair and other is not None:
                self._aim.repair(other, best.repair)
                self._publish()

    def _publish(self) -> None:
        self._job.latest = self._allocation()
        self._job.advance(self._job.progress.done)

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

    def _sweep(self, images: int, stage: str) -> Foresight:
        """Measure every option on about ``images`` images, or take it from the history; return what that foresees."""
        job = self._job
        try:
            found = sweep_options(
                self._bed, self._plan, images, history=job.session.history, executor=job.executor,
                cancelled=lambda: job.cancelled, told=lambda share: self._tell(stage, share),
            )  # fmt: skip
        finally:
            job.check()  # cancelled, it ends as a job that was, not as one that failed
        self._images = int(found.n.min())
        return Foresight.of(found, damages(found, self._plan), self._beneath)

    def _other_steps(self) -> Seen | None:
        """Return what the recipe's other steps do on their own, None where there are none."""
        bed, plan = self._bed, self._plan
        score = bed.measure(plan.base).score if plan.base else None
        if score is None:
            return None
        return Seen(plan.choice_of(plan.neutral), bed.divergence(plan.base), self._baseline - score.value)

    def _measure(self, answer: Answer) -> Answer:
        """Return the answer with its measurement in full on the validation split."""
        snapshot = self._bed.measure(answer.recipe)
        known = measured(answer, snapshot, self._bed.divergence(answer.recipe), self._budget.counted)
        # what was foreseen first counts: once an answer was measured, the foresight knows it
        return self._measured.setdefault(f"{answer.by} {answer.recipe.hash}", known)

    def _seen(self) -> tuple[Seen, ...]:
        unique = {answer.choice: answer for answer in self._measured.values() if not answer.repair}
        return tuple(
            Seen(choice, answer.diverged or 0.0, lost_by(answer, self._baseline)) for choice, answer in unique.items()
        )

    def _plain(self, by: str) -> Answer:
        """Return a solver's best answer without repairs: what can be compared with what was foreseen."""
        return max((each for each in self._measured.values() if each.by == by and not each.repair), key=self._aim.rank)

    @property
    def _baseline(self) -> float:
        score = self._bed.baseline.score
        assert score is not None, "it is measured when the testbed is made"
        return score.value

    def _best(self, by: str) -> Answer | None:
        """Return the best answer of a solver, on the validation split."""
        return max((answer for answer in self._measured.values() if answer.by == by), key=self._aim.rank, default=None)

    def _report(self) -> Allocation:
        """Measure the winner once on the reporting split, and beside it the greedy and the uniform answer."""
        self._tell("report", 0)
        session, latest = self._job.session, self._allocation()
        if not self._aim.keeps(latest.best):
            raise WorkbenchError(self._too_little(latest.best))
        bed = Testbed(session, session.split.name, self._check, self._base)
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

    def _too_little(self, best: Answer) -> str:
        """Return the sentence for a loss that no answer keeps, which only a locked layer or another step can cause."""
        budget, locked = self._budget, self._plan.locked
        why = f"with {', '.join(locked)} locked" if locked else "by the recipe's other steps"
        least = budget.say(lost_by(best, self._baseline))
        return f"A loss of at most {budget.say()} cannot be kept {why}: the least that was found is {least}."

    def _reported(self, bed: Testbed, answer: Answer) -> Answer:
        return replace(answer, reported=bed.measure(answer.recipe))

    def _allocation(self) -> Allocation:
        best = max(self._measured.values(), key=self._aim.rank)
        greedy, uniform = (self._best(by) for by in SOLVERS[1:])
        shown = [("The best", best), ("Greedy", greedy), ("Uniform", uniform)]
        remarks = [remark(self._plain(answer.by), title) for title, answer in shown if answer]
        remarks += [self._plan.ties, self._plan.stays, self._job.untrained]
        return Allocation(
            self._budget, tuple(method.name for method in self._plan.methods), self._plan.locked, self._bed.baseline,
            self._baseline, best, greedy, uniform, tuple(self._measured.values()), tuple(filter(None, remarks)),
            self._images, self._first, time.monotonic() - self._start,
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
