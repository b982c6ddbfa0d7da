"""The front of accuracy, size and latency: recipes that no other one beats in all three, by NSGA-II.

The exact allocator answers one budget, on damages that it takes to add up. Here whole recipes are measured, each on
the whole validation split, and a population of them evolves (Deb et al. 2002, by Optuna). It begins with exact answers
to a ladder of budgets, and with these changed a little, so that evolution starts where random search would hardly get
to. Channels, which are decided for groups of layers, and bits and pruning, which are for single ones, are genes side by
side: nothing has to add up.

Every trial is kept in the history before the next begins: killed at any moment, a search of the same question goes on
with the trials it had.
"""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from workbench.errors import WorkbenchError
from workbench.jobs import Cancelled, Job
from workbench.measure.estimate import Estimate
from workbench.recipe import Recipe
from workbench.run.executor import hire

from .budget import Budget
from .costs import Costs
from .damage import damages, sweep_options
from .methods import require_methods, without_training
from .options import Plan, plan_for, require_layers
from .problem import Choice
from .repairs import repaired, repairs_for
from .testbed import Testbed

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial, Trial

    from workbench.run.executor import Executor
    from workbench.session import Session
    from workbench.snapshot import Snapshot

#: What the history calls kept trials.
KIND = "front"
#: Recipes of a generation; exact answers that the first one begins with, of each plan.
POPULATION, SEEDS = 24, 6
#: Images behind each option's divergence, from which the exact answers come.
IMAGES = 64
#: Which methods are genes of which plan, and what each plan's exact answers are sought within.
PLANS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("channels",), "ms"),
    (("prune", "factorize", "quantize", "share"), "bytes"),
)
#: Methods unless said.
USUAL = ("channels", "prune", "quantize")
SPLIT = "validation"


@dataclass(frozen=True)
class FrontPoint:
    """One recipe on the front, as measured on the validation split; ``ms`` is predicted, None where it can't be."""

    recipe: Recipe
    accuracy: Estimate
    bytes: int
    ms: float | None

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "recipe": self.recipe.to_data(), "recipe_hash": self.recipe.hash, "accuracy": self.accuracy.to_json(),
            "bytes": self.bytes, "ms": self.ms,
        }  # fmt: skip


class FrontJob(Job[tuple[FrontPoint, ...]]):
    """Evolves recipes of ``session``'s model over so many ``trials``, those of an earlier, ended search included.

    ``latest`` is the front so far, by rising size. ``methods`` are names of ``options.METHODS``, ``USUAL`` where empty.
    ``base``, ``locked``, ``repair``, ``executor`` and ``untrained`` are as of an ``AllocationJob``. Raises
    ``WorkbenchError`` where Optuna is not installed.
    """

    def __init__(
        self,
        session: Session,
        trials: int = 96,
        methods: Sequence[str] = (),
        seed: int = 0,
        *,
        base: Recipe | None = None,
        locked: Collection[str] = (),
        repair: bool = True,
        executor: str | Executor | None = None,
    ) -> None:
        require_front(trials)
        session.data[SPLIT]
        self.session, self.trials, self.repair = session, trials, repair
        self.latest: tuple[FrontPoint, ...] = ()
        base, self.untrained = without_training(session.recipe if base is None else base)
        chosen = tuple(methods) or USUAL
        evolution = _Evolution(self, chosen, seed, base, tuple(locked))
        self.executor, hired = hire(executor)

        def work(_: Job[tuple[FrontPoint, ...]]) -> tuple[FrontPoint, ...]:
            with hired:
                return evolution.run()

        super().__init__("front", work, trials)


def require_front(trials: int) -> None:
    """Raise ``WorkbenchError`` where no front of so many ``trials`` can be searched here."""
    if trials < 1:
        raise WorkbenchError(f"A front of {trials} trials has nothing on it; let it be 1 or more.")
    try:
        import optuna
    except ImportError as error:
        raise WorkbenchError(
            'Fronts are searched by Optuna, which is not installed: pip install "compression-workbench[search]"'
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)


class _Evolution:
    def __init__(
        self, job: FrontJob, methods: tuple[str, ...], seed: int, base: Recipe, locked: tuple[str, ...]
    ) -> None:
        self._job, self._methods, self._seed, self._base, self._locked = job, methods, seed, base, locked
        self._chance = random.Random(seed)

    def run(self) -> tuple[FrontPoint, ...]:
        job = self._job
        self._bed = Testbed(job.session, SPLIT, self._check, self._base)
        self._plans = self._make_plans()
        self._study = self._open()
        if len(self._study.trials) < POPULATION:  # the first generation is not through yet
            for genes in self._seeds():
                self._study.enqueue_trial(genes, skip_if_exists=True)
        self._publish()
        while self._done() < job.trials:
            self._check()
            trial = self._study.ask()
            recipe = self._recipe(self._choices(trial))
            self._study.tell(trial, self._objectives(self._bed.measure(recipe)))
            self._keep()
            self._publish()
        return job.latest

    def _make_plans(self) -> list[Plan]:
        subject, plans = self._bed.subject, []
        require_methods(self._methods)
        require_layers([layer.name for layer in subject.layers], self._locked)
        for names, _ in PLANS:
            chosen = [name for name in names if name in self._methods]
            if chosen == ["channels"] and not subject.channels.groups and len(self._methods) > 1:
                continue  # none of this model's can be removed, but there are other ways
            if chosen:
                plans.append(plan_for(subject, Budget("bytes", 1), chosen, self._base, self._locked))
        methods = [method for plan in plans for method in plan.methods]
        kept = [step for step in self._base.steps if not any(method.decides(step) for method in methods)]
        self._rest = Recipe(tuple(kept))
        return plans

    def _open(self) -> Study:
        """Return a study with the trials that the history holds."""
        import optuna
        from optuna.samplers import NSGAIISampler

        sampler = NSGAIISampler(population_size=POPULATION, seed=self._seed)
        study = optuna.create_study(directions=["maximize", "minimize", "minimize"], sampler=sampler)
        for kept in self._kept():
            study.add_trial(
                optuna.trial.create_trial(
                    params=kept["genes"],
                    distributions={name: self._distribution(name) for name in kept["genes"]},
                    values=kept["values"],
                    system_attrs=kept["attributes"],
                )
            )
        return study

    def _kept(self) -> list[dict[str, Any]]:
        finding = None
        with contextlib.suppress(WorkbenchError):
            finding = self._job.session.history.finding(self._bed.key, KIND, self._question)
        try:
            return list(json.loads(finding.payload)) if finding else []
        except ValueError:  # damaged: then it is searched anew
            return []

    @property
    def _question(self) -> str:
        plans = [[[[each.name, dict(each.settings)] for each in plan.methods], plan.options] for plan in self._plans]
        asked = [plans, POPULATION, self._seed, self._job.session.data.lessons]
        if self._rest or self._locked or not self._job.repair:
            held = [[unit.options for unit in plan.units if unit.locked] for plan in self._plans]
            asked.append([self._rest.hash, sorted(self._locked), held, self._job.repair])
            asked += [sorted(map(list, plan.held.items())) for plan in self._plans if plan.held]
        return json.dumps(asked)

    def _distribution(self, gene: str) -> Any:
        from optuna.distributions import IntDistribution

        plan, unit = self._units()[gene]
        return IntDistribution(0, len(self._plans[plan].units[unit].options) - 1)

    def _units(self) -> dict[str, tuple[int, int]]:
        """Return gene → its plan's and its unit's number."""
        return {
            f"{'+'.join(method.name for method in plan.methods)} {unit.name}": (number, place)
            for number, plan in enumerate(self._plans)
            for place, unit in enumerate(plan.units)
        }

    def _choices(self, trial: Trial) -> list[Choice]:
        found: list[list[int]] = [[] for _ in self._plans]
        for gene, (plan, unit) in self._units().items():
            found[plan].append(trial.suggest_int(gene, 0, len(self._plans[plan].units[unit].options) - 1))
        return [tuple(each) for each in found]

    def _recipe(self, choices: Sequence[Choice]) -> Recipe:
        """Return the recipe of all plans' choices; removed channels make BatchNorm worth recalibrating."""
        recipe = self._rest
        for plan, choice in zip(self._plans, choices, strict=True):
            recipe = replace(plan, base=recipe).recipe(choice)
        if recipe and self._job.repair and "recalibrate" in repairs_for(self._bed, recipe):
            return repaired(recipe, "recalibrate")
        return recipe

    def _objectives(self, snapshot: Snapshot) -> list[float]:
        assert snapshot.score is not None
        assert snapshot.size is not None
        return [snapshot.score.value, snapshot.size.bytes, snapshot.latency.ms if snapshot.latency else 0.0]

    def _seeds(self) -> list[dict[str, int]]:
        """Return the first generation's genes: exact answers of each plan, the others left mild, and changed ones."""
        mild = [tuple(0 for _ in plan.units) for plan in self._plans]
        starts: list[list[Choice]] = [mild]
        for number, plan in enumerate(self._plans):
            for choice in self._ladder(plan):
                starts.append([choice if other == number else mild[other] for other in range(len(self._plans))])
        both = [list(pair) for pair in zip(*(self._ladder(plan) for plan in self._plans), strict=False)]
        starts += both if len(self._plans) > 1 else []
        changed = [self._changed(start) for start in starts]
        return [self._genes(start) for start in [*starts, *changed][:POPULATION]]

    def _ladder(self, plan: Plan) -> list[Choice]:
        """Return exact answers to budgets between the mildest and the harshest that the plan can reach."""
        kind = next(kind for names, kind in PLANS if plan.methods[0].name in names)
        if kind == "ms" and self._bed.baseline.latency is None:
            kind = "macs"
        job = self._job
        try:
            found = sweep_options(
                self._bed, plan, IMAGES, history=job.session.history, executor=job.executor,
                cancelled=lambda: job.cancelled,
            )  # fmt: skip
        finally:
            self._check()  # cancelled, it ends as a job that was, not as one that failed
        costs = Costs(self._bed, plan, kind)  # type: ignore[arg-type]
        problem = costs.problem(damages(found, plan))
        cheapest = problem.cheapest()
        assert cheapest is not None
        least, most = problem.cost_of(cheapest), costs.plain
        if least <= 0:  # the parts save more than there is: what tied layers save is counted for each
            least = costs.true(cheapest)
        budgets = [least * (most / least) ** (step / (SEEDS + 1)) for step in range(1, SEEDS + 1)]
        return [choice for choice in map(problem.solve, budgets) if choice is not None]

    def _changed(self, choices: Sequence[Choice]) -> list[Choice]:
        """Return the choices with a few options moved to a neighbour."""
        changed = []
        for plan, choice in zip(self._plans, choices, strict=True):
            options = list(choice)
            for unit in self._chance.sample(range(len(options)), max(1, len(options) // 6)):
                last = len(plan.units[unit].options) - 1
                options[unit] = min(last, max(0, options[unit] + self._chance.choice((-1, 1))))
            changed.append(tuple(options))
        return changed

    def _genes(self, choices: Sequence[Choice]) -> dict[str, int]:
        return {gene: choices[plan][unit] for gene, (plan, unit) in self._units().items()}

    def _finished(self) -> list[FrozenTrial]:
        return [trial for trial in self._study.trials if trial.values is not None]

    def _done(self) -> int:
        return len(self._finished())

    def _keep(self) -> None:
        """Store all finished trials, with what the sampler noted about them."""
        trials = [
            {"genes": trial.params, "values": trial.values, "attributes": _plain(trial.system_attrs)}
            for trial in self._finished()
        ]
        payload = json.dumps(trials).encode()
        with contextlib.suppress(WorkbenchError):  # a history that can't be written
            self._job.session.history.keep_finding(
                self._bed.key, KIND, self._question, payload, len(trials) >= self._job.trials
            )

    def _publish(self) -> None:
        """Tell the front so far; what was measured in an earlier session comes from the history."""
        points = []
        for trial in self._study.best_trials if self._done() else []:
            choices: list[list[int]] = [[] for _ in self._plans]
            for gene, (plan, _) in self._units().items():
                choices[plan].append(trial.params[gene])
            accuracy, size, ms = trial.values
            figure = Estimate.exact(accuracy, len(self._bed.split), SPLIT)
            recipe = self._recipe([tuple(each) for each in choices])
            points.append(FrontPoint(recipe, figure, int(size), ms or None))
        unique = {point.recipe.hash: point for point in points}
        self._job.latest = tuple(sorted(unique.values(), key=lambda point: point.bytes))
        self._job.advance(self._done())

    def _check(self) -> None:
        self._job.check()
        if self._job.session.closed:
            raise Cancelled


def _plain(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return what the sampler needs to go on; parents are named by number, which stays as trials are added in order."""
    return {name: value for name, value in attributes.items() if name != "fixed_params"}
