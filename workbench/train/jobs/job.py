"""Training as a job: the steps of a recipe that have not been trained, one after the other.

The Job's thread only starts the worker process and reads what it tells (``workbench.train.jobs.process``);
``pause``, ``resume`` and ``cancel`` are handed on. A worker that is cancelled, or whose parent ends, keeps a
checkpoint under the step's key: started again, by whatever session, the training goes on from there. A lock on
the checkpoint keeps two jobs from training the same step at once.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from workbench.compression import context_for, draft_for
from workbench.data.dataset import Dataset, Split
from workbench.encodings.artefacts import Artefact
from workbench.errors import WorkbenchError
from workbench.jobs import Job
from workbench.measure.estimate import Estimate
from workbench.models.model import Model
from workbench.recipe import Recipe, Step
from workbench.run.courtesy import stand_back
from workbench.subject import Subject
from workbench.techniques import Cost
from workbench.techniques.draft import Draft
from workbench.techniques.trained import TrainingSettings
from workbench.techniques.trained.base import put_learned, training_key

from ..images.passes import TrainingImages
from ..loop.loop import Point, count_right
from ..method import Method
from ..methods import METHODS
from ..student import Student
from ..synthetic import Synthesis, check_source, made_split
from ..teaching.assistants import eased
from ..teaching.teachers import teacher_of
from .process import Apart, Interrupted, Place
from .worker import Request


@dataclass(frozen=True)
class Trained:
    """What training a recipe came to: validation accuracy before and after its last trained step.

    ``seconds`` are those of all steps that were trained now, ``curve`` is the last one's and ``took`` what it
    took, whenever that was; ``stopped`` says why it ended before its last epoch, where it did, and ``note`` what
    was measured of its steps.
    """

    recipe: Recipe
    before: Estimate
    after: Estimate
    seconds: float
    curve: tuple[Point, ...]
    took: float = 0.0
    stopped: str = ""
    note: str = ""


class TrainingJob(Job[Trained]):
    """Trains a recipe in the background; ``curve`` grows as epochs end.

    ``technique`` is what trains now, on so many ``images``; ``before`` is the validation accuracy before it, and
    ``note`` what was measured of its steps. ``doing`` says what else is under way: images that are made first.
    """

    def __init__(
        self, model: Model, data: Dataset, recipe: Recipe, threads: int = 1, place: Place | None = None
    ) -> None:
        self.recipe = recipe
        self.curve: tuple[Point, ...] = ()
        self.before: float | None = None
        self.paused, self._rests = False, 0.0
        self.technique, self.images, self.note, self.doing = "", 0, "", ""
        self._place = Apart() if place is None else place
        check_threads(threads)
        check_data(data, recipe)
        for step in recipe.steps:
            made = getattr(step.settings, "learn_from", "train")
            if made != "train":
                check_source(model, data, Synthesis.parse(made))
        total = sum(_passes(step) for step in recipe.steps if step.cost is Cost.TRAINED)
        super().__init__("training", lambda job: _Training(self, model, data, threads).run(), total=max(1, total))

    def pause(self) -> None:
        """Let the training rest; what it has in memory is kept."""
        if not self.paused:
            self.paused, self._rests = True, time.monotonic()
        self._place.pause()

    def resume(self) -> None:
        """Let it go on."""
        if self.paused:
            self.waited(time.monotonic() - self._rests)
        self.paused = False
        self._place.resume()

    def cancel(self) -> None:
        """End the training; started again, it goes on from where it was."""
        super().cancel()
        self._place.stop()


def train(model: Model, data: Dataset, recipe: Recipe, threads: int = 1, place: Place | None = None) -> TrainingJob:
    """Start training the trained steps of ``recipe`` that have not been, and return the Job.

    ``place`` is where it runs (``workbench.train.jobs.process``): a process of its own unless said.

    Raises:
        WorkbenchError: no training data or no validation split, one class only, no trained step, no core.
    """
    return TrainingJob(model, data.in_order(model.classes), recipe, threads, place)


class _Training:
    """Works through the steps of one recipe."""

    def __init__(self, job: TrainingJob, model: Model, data: Dataset, threads: int) -> None:
        self._job, self._data, self._threads = job, data, threads
        self._subject = Subject.of(model, data.image_shape)
        self._context = context_for(model, data, job.check)
        self._epochs = 0
        self._seconds = 0.0

    def run(self) -> Trained:
        """Train what is missing; return what the last trained step came to."""
        steps = self._job.recipe.steps
        artefact, last = Artefact({}), 0
        for place, step in enumerate(steps):
            if step.cost is Cost.TRAINED:
                artefact, last = self._one(step, Recipe(steps[:place])), place
        about = artefact.about
        assert about, "a recipe without a trained step is refused"
        found = Trained(
            self._job.recipe,
            Estimate(**about["before"]),
            Estimate(**about["after"]),
            self._seconds,
            tuple(Point(**point) for point in about["curve"]),
            float(about["seconds"]),
            str(about["stopped"]),
            str(about.get("note", "")),
        )
        # none in what an earlier version left
        return found if about.get("judge") in (None, self._data["validation"].hash) else self._anew(found, last)

    def _anew(self, found: Trained, last: int) -> Trained:
        """Return what was trained with another validation split, judged on the present one."""
        steps = self._job.recipe.steps
        before, after = (self._judged(Recipe(steps[: last + more])) for more in (0, 1))
        note = f"{found.note} It was trained before, and its epoch was chosen on another validation split.".strip()
        return replace(found, before=before, after=after, curve=(), note=note)

    def _judged(self, recipe: Recipe) -> Estimate:
        """Return the accuracy of ``recipe`` on the validation split."""
        module, normalize = draft_for(self._subject, recipe, self._context).build(), self._context.normalization
        assert normalize is not None
        split, right = self._data["validation"], 0
        with torch.inference_mode():
            for images, labels in zip(split.images.split(256), split.labels.split(256), strict=True):
                self._job.check()
                right += count_right(module(normalize(images)), labels)
        return Estimate.exact(right / len(split), len(split), "validation")

    def _one(self, step: Step, before: Recipe) -> Artefact:
        """Return what a step learned, training it where it was not."""
        draft = draft_for(self._subject, before, self._context)
        layers = cast("dict[str, TrainingSettings]", step.resolve(draft.layers))
        if not layers:
            raise WorkbenchError(f"The step '{step.technique}' acts on no layer: give it some, or take it out.")
        key = training_key(step.technique, layers, draft, self._context)
        began = self._epochs
        found = self._context.artefacts.find(key)
        if found is None:
            found = self._train(step, draft, key, self._assistant(step, before, key))
        self._epochs = began + _passes(step)
        self._context.cache.forget(("trained", key))
        return found

    def _assistant(self, step: Step, before: Recipe, key: str) -> nn.Module | None:
        """Return the last assistant between teacher and student, trained where it was not; None for no assistant."""
        count, teacher = getattr(step.settings, "assistants", 0), None
        for number in range(1, count + 1):
            draft = draft_for(self._subject, eased(before, number / (count + 1)), self._context)
            name = f"{key}-assistant{number}"
            found = self._context.artefacts.find(name) or self._train(step, draft, name, teacher)
            put_learned(draft, found, name)
            teacher = draft.build()
            self._epochs += _method(step).epochs
        return teacher

    def _train(self, step: Step, draft: Draft, key: str, teacher: nn.Module | None) -> Artefact:
        """Train a step on the model as ``draft`` has it, taught by ``teacher`` in place of the step's own."""
        artefacts = self._context.artefacts
        folder = artefacts.folder / "running"
        folder.mkdir(parents=True, exist_ok=True)
        layers = cast("dict[str, TrainingSettings]", step.resolve(draft.layers))
        with _alone(folder / f"{key}.lock"):
            request = self._request(step.technique, layers, draft, folder / f"{key}.checkpoint")
            teacher = request.teacher if teacher is None else teacher
            request = replace(request, result=artefacts.path(key), teacher=teacher)
            self._job.check()
            self._job._place.run(request, lambda course: self._follow(course, request))
        found = artefacts.find(key)
        assert found is not None, "the worker said that it is done"
        self._seconds += float(found.about["seconds"])
        return found

    def _images(self, settings: TrainingSettings) -> Split:
        """Return what is trained on; images that are made up are made now, where they have not been."""
        if settings.learn_from == "train":
            return self._data["train"]
        stand_back(5)
        how, job = Synthesis.parse(settings.learn_from), self._job

        def told(share: float) -> None:
            job.check()
            job.doing = f"making images, {share:.0%}"
            job.advance(self._epochs)

        try:
            return made_split(self._subject.model, self._data, how, told)
        finally:
            job.doing = ""

    def _request(
        self, technique: str, layers: Mapping[str, TrainingSettings], draft: Draft, checkpoint: Path
    ) -> Request:
        settings = next(iter(layers.values()))
        train, validation, normalize = self._images(settings), self._data["validation"], self._context.normalization
        assert normalize is not None
        if settings.images is not None and settings.images < len(train):
            order = torch.randperm(len(train), generator=torch.Generator().manual_seed(settings.seed))
            train = train.take(order[: settings.images])
        images = TrainingImages(
            train.images, train.labels, normalize, min(settings.batch, len(train)), settings.augment, settings.seed,
            settings.erase, settings.randaugment, settings.mix, settings.alpha, len(self._data.classes),
        )  # fmt: skip
        method = METHODS[technique](settings)
        student = Student.of(draft, method, layers)
        method.prepare(student, draft, self._subject, self._job.recipe)
        teacher = teacher_of(settings, draft, self._data, normalize)
        held = validation.images, validation.labels
        return Request(
            technique, settings, student, teacher, images, held, checkpoint, Path(), self._threads, validation.hash
        )

    def _follow(self, course: dict[str, Any], request: Request) -> None:
        job = self._job
        job.technique, job.images = request.technique, len(request.images.labels)
        job.before, job.note = course["before"], course["note"]
        job.curve = tuple(Point(**point) for point in course["curve"])
        job.advance(self._epochs + course["step"] / request.images.steps)


def _passes(step: Step) -> int:
    return cast("TrainingSettings", step.settings).passes


def _method(step: Step) -> Method[Any]:
    return METHODS[step.technique](step.settings)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the lock at ``path``. Raises ``Interrupted`` where another job does."""
    import fcntl

    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Interrupted("This training is running already; wait for it, or cancel it first.") from error
        yield


def check_threads(threads: int) -> None:
    """Raise ``WorkbenchError`` where there would be no core to train on."""
    if threads < 1:
        raise WorkbenchError(f"Training takes a core or more, not {threads}.")


def check_data(data: Dataset, recipe: Recipe) -> None:
    """Raise ``WorkbenchError`` where ``recipe`` can't be trained on ``data``."""
    if not any(step.cost is Cost.TRAINED for step in recipe.steps):
        raise WorkbenchError("The recipe has no step that trains: add one, such as finetune.")
    for name in ("train", "validation"):
        if name not in data.splits or not len(data[name]):
            raise WorkbenchError(f"Training needs a split '{name}', which '{data.name}' has not: load it with one.")
        check_labels(data[name], len(data.classes), data.name)


def check_labels(split: Split, classes: int, name: str) -> None:
    """Raise ``WorkbenchError`` where a split of the data called ``name`` can't be trained on, or judged by."""
    if not split.labelled:
        raise WorkbenchError(
            f"Training needs labels, and the {split.name} images of '{name}' have none; pruning, quantization and what "
            "is calibrated (reconstruction by GPTQ, bias correction, BatchNorm) work without."
        )
    low, high = int(split.labels.min()), int(split.labels.max())
    if low < 0 or high >= classes:
        raise WorkbenchError(
            f"Labels {low} to {high} of split '{split.name}' of '{name}' are out of range for {classes} classes."
        )
    if split.name == "train" and low == high:
        raise WorkbenchError(f"All training images of '{name}' are of class {low}: training needs two classes or more.")
