"""The recovery ladder: ways to win accuracy back, cheapest first, each with the points it regains a second.

A rung is a few steps put behind the present recipe. ``climb`` tries rungs in turn, keeps those that help, each
standing on the ones kept before, and stops as soon as the loss is within what was asked for. Accuracy is judged
on the validation split; the test split is never looked at.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from workbench.compression import compress_subject, context_for
from workbench.data.dataset import Dataset
from workbench.errors import WorkbenchError
from workbench.evaluation import Evaluator
from workbench.jobs import Job, Progress
from workbench.measure.estimate import Estimate
from workbench.models.model import Model
from workbench.recipe import Recipe
from workbench.run.courtesy import stand_back
from workbench.subject import Subject
from workbench.techniques import Cost

from .job import TrainingJob, check_labels, check_threads, train
from .process import Interrupted, Place

#: What a rung takes beside its training, in passes over the training images.
CHEAP = 0.1


@dataclass(frozen=True)
class Rung:
    """One way to win accuracy back: ``steps`` put behind a recipe."""

    name: str
    title: str
    steps: tuple[dict[str, dict[str, Any]], ...]
    help: str

    def after(self, recipe: Recipe) -> Recipe:
        """Return ``recipe`` with this rung's steps at its end."""
        return Recipe.parse([*recipe.to_data(), *self.steps])


RUNGS = (
    Rung("recalibrate", "Recalibrate BatchNorm", ({"recalibrate": {}},),
         "Takes BatchNorm's statistics anew on calibration images. Nothing is trained."),
    Rung("correct_bias", "Correct biases", ({"correct_bias": {}},),
         "Shifts each channel's mean output back to what it was. Nothing is trained."),
    Rung("reconstruct", "Reconstruct layers", ({"reconstruct": {}},),
         "Trains each layer alone to give its old outputs, on a few hundred images without labels."),
    Rung("finetune", "Fine-tune, short", ({"finetune": {"epochs": 1}},),
         "One pass over the training images."),
    Rung("distill", "Distil", ({"distill": {"epochs": 4}},),
         "Four passes, taught by the uncompressed model's answers."),
    Rung("longer", "Train longer", ({"distill": {"epochs": 16}},),
         "Sixteen more passes, taught by the uncompressed model's answers."),
)  # fmt: skip


@dataclass(frozen=True)
class Tried:
    """What a rung came to on the validation split: accuracy before and after, and the seconds it took."""

    rung: str
    recipe: Recipe
    before: Estimate
    after: Estimate
    seconds: float
    note: str = ""

    @property
    def points(self) -> float:
        """Points regained."""
        return 100 * (self.after.value - self.before.value)

    @property
    def per_second(self) -> float:
        """Points regained a second."""
        return self.points / max(self.seconds, 1e-3)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        figures = {"points": self.points, "seconds": self.seconds, "per_second": self.per_second}
        before, after = asdict(self.before), asdict(self.after)
        return {"rung": self.rung, "before": before, "after": after, **figures, "note": self.note}


@dataclass(frozen=True)
class Climbed:
    """Where a climb ended: the recipe, the dense model's accuracy, the first and the last, and every rung tried."""

    recipe: Recipe
    dense: Estimate
    before: Estimate
    after: Estimate
    tried: tuple[Tried, ...] = ()
    reached: bool = False

    @property
    def lost(self) -> float:
        """Points still lost against the dense model."""
        return 100 * (self.dense.value - self.after.value)


@dataclass
class _State:
    recipe: Recipe
    accuracy: Estimate
    tried: list[Tried] = field(default_factory=list)


class Climb(Job[Climbed]):
    """Climbs the ladder in the background; ``tried`` grows, ``training`` is the rung's job while one trains."""

    def __init__(
        self, model: Model, data: Dataset, recipe: Recipe, within: float | None, rungs: Sequence[Rung],
        threads: int, place: Place | None,
    ) -> None:  # fmt: skip
        self.recipe, self.within, self.rungs = recipe, within, tuple(rungs)
        self.tried: tuple[Tried, ...] = ()
        self.rung = ""
        self.training: TrainingJob | None = None
        self._model, self._data, self._threads, self._place = model, data, threads, place
        self._passes = [_work(rung, len(data["train"]) if "train" in data.splits else 1) for rung in self.rungs]
        super().__init__("climb", lambda job: self._climb(), total=sum(self._passes) or 1.0)

    @property
    def paused(self) -> bool:
        """Whether the training that is under way rests."""
        return self.training is not None and self.training.paused

    def pause(self) -> None:
        """Let the training that is under way rest; rungs that train nothing take seconds and go on."""
        if self.training is not None:
            self.training.pause()

    def resume(self) -> None:
        """Let it go on."""
        training = self.training
        if training is not None:
            before = training.still
            training.resume()
            self.waited(training.still - before)

    def cancel(self) -> None:
        """End the climb; started again, a training goes on from where it was."""
        super().cancel()
        training = self.training
        if training is not None:
            training.cancel()

    def _climb(self) -> Climbed:
        stand_back(5)
        accuracy = _Accuracy(self._model, self._data, self)
        dense, before = accuracy(Recipe()), accuracy(self.recipe)
        state = _State(self.recipe, before)
        for place, rung in enumerate(self.rungs):
            if self._reached(dense, state.accuracy):
                break
            self.rung = rung.name
            self.advance(sum(self._passes[:place]))
            self._try(rung, state, accuracy, place)
        self.rung = ""
        return Climbed(
            state.recipe, dense, before, state.accuracy, tuple(state.tried), self._reached(dense, state.accuracy)
        )

    def _reached(self, dense: Estimate, now: Estimate) -> bool:
        return self.within is not None and 100 * (dense.value - now.value) <= self.within

    def _try(self, rung: Rung, state: _State, accuracy: _Accuracy, place: int) -> None:
        recipe = rung.after(state.recipe)
        begin, note = time.monotonic(), ""
        try:
            if recipe.cost is Cost.TRAINED:
                begin -= self._train(recipe, place)
            after = accuracy(recipe)
        except WorkbenchError as error:  # a rung that this model can't stand on
            if isinstance(error.__cause__, Interrupted):  # started again, it can
                raise
            after, note = state.accuracy, str(error)
        tried = Tried(rung.name, recipe, state.accuracy, after, time.monotonic() - begin, note)
        state.tried.append(tried)
        self.tried = tuple(state.tried)
        if after.value > state.accuracy.value:
            state.recipe, state.accuracy = recipe, after
        self.advance(sum(self._passes[: place + 1]))

    def _train(self, recipe: Recipe, place: int) -> float:
        """Train the last step of ``recipe``; return the seconds to add to those that went by.

        What it took where it was found trained already; less than none where it stood still.
        """
        self.check()
        job = self.training = train(self._model, self._data, recipe, self._threads, self._place)
        job.subscribe(lambda progress: self._hear(place, progress))
        if self.cancelled:  # between the check and the assignment
            job.cancel()
        begin = time.monotonic()
        try:
            job.wait()
            self.check()
            took = time.monotonic() - begin - job.still
            return max(0.0, job.result().took - took) - job.still
        finally:
            self.training = None

    def _hear(self, place: int, progress: Progress) -> None:
        if progress.state == "running":
            self.advance(sum(self._passes[:place]) + self._passes[place] * progress.share)


class _Accuracy:
    """The accuracy of recipes on the validation split."""

    def __init__(self, model: Model, data: Dataset, job: Job[Any]) -> None:
        split = data["validation"]
        self._subject, self._count, self._check = Subject.of(model, data.image_shape), len(split), job.check
        self._context = context_for(model, data, job.check)
        self._evaluator = Evaluator(self._subject, split, model.normalization or data.normalization)

    def __call__(self, recipe: Recipe) -> Estimate:
        compressed = compress_subject(self._subject, recipe, self._context)
        right = self._evaluator.correct(self._evaluator.free_runner(compressed), self._check)
        return Estimate.exact(right / self._count, self._count, "validation")


def _work(rung: Rung, images: int) -> float:
    """Return about how long a rung takes, in passes over the training ``images``."""
    passes = CHEAP
    for step in Recipe.parse(list(rung.steps)).steps:
        if step.cost is Cost.TRAINED:
            settings = step.settings.model_dump()
            passes += settings["epochs"] * min(settings["images"] or images, images) / images
    return passes


def climb(
    model: Model,
    data: Dataset,
    recipe: Recipe,
    within: float | None = 0.5,
    rungs: Sequence[Rung] | None = None,
    threads: int = 1,
    place: Place | None = None,
) -> Climb:
    """Start to climb from ``recipe`` until at most ``within`` points are lost, and return the Job.

    ``within=None`` tries every rung, whatever is reached. ``rungs`` are all of ``rungs_for(model)`` unless said.

    Raises:
        WorkbenchError: no validation split, no labels to judge by, no core, or a target that is below zero or no
            number.
    """
    if within is not None and not within >= 0:  # no number is not either
        raise WorkbenchError(f"A loss of {within:g} points can't be asked for: give 0 or more, such as 0.5.")
    if "validation" not in data.splits or not len(data["validation"]):
        raise WorkbenchError(f"Climbing needs a split 'validation', which '{data.name}' has not: load it with one.")
    data = data.in_order(model.classes)
    check_labels(data["validation"], len(data.classes), data.name)
    check_threads(threads)
    return Climb(model, data, recipe, within, rungs_for(model) if rungs is None else rungs, threads, place)


def rungs_for(model: Model) -> tuple[Rung, ...]:
    """Return the rungs that ``model`` can stand on: recalibration needs a BatchNorm."""
    from torch.nn.modules.batchnorm import _BatchNorm

    has = any(isinstance(part, _BatchNorm) for part in model.module.modules())
    return RUNGS if has else tuple(rung for rung in RUNGS if rung.name != "recalibrate")
