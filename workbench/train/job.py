"""Training as a job: the steps of a recipe that have not been trained, one after the other.

The Job's thread only starts the worker process and reads what it tells; ``pause``, ``resume`` and ``cancel`` are
handed on. A worker that is cancelled, or whose parent ends, keeps a checkpoint under the step's key: started
again, by whatever session, the training goes on from there. A lock on the checkpoint keeps two jobs from
training the same step at once.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from workbench.compression import context_for, draft_for
from workbench.data.dataset import Dataset, Split
from workbench.encodings.artefacts import Artefact
from workbench.errors import WorkbenchError
from workbench.jobs import Cancelled, Job
from workbench.measure.estimate import Estimate
from workbench.models.model import Model
from workbench.recipe import Recipe, Step
from workbench.subject import Subject
from workbench.techniques import Cost
from workbench.techniques.draft import Draft
from workbench.techniques.trained import TrainingSettings
from workbench.techniques.trained.base import training_key

from .images import TrainingImages
from .loop import Point
from .student import Student
from .worker import Request


@dataclass(frozen=True)
class Trained:
    """What training a recipe came to: validation accuracy before and after its last trained step.

    ``seconds`` are those of all steps that were trained, ``curve`` is the last one's; ``stopped`` says why it
    ended before its last epoch, where it did.
    """

    recipe: Recipe
    before: Estimate
    after: Estimate
    seconds: float
    curve: tuple[Point, ...]
    stopped: str = ""


class TrainingJob(Job[Trained]):
    """Trains a recipe in the background; ``curve`` grows as epochs end."""

    def __init__(self, model: Model, data: Dataset, recipe: Recipe, threads: int = 1) -> None:
        self.recipe = recipe
        self.curve: tuple[Point, ...] = ()
        self.before: float | None = None
        self.paused = False
        self._worker: subprocess.Popen[bytes] | None = None
        _check_data(data, recipe)
        total = sum(_settings(step).epochs for step in recipe.steps if step.cost is Cost.TRAINED)
        super().__init__("training", lambda job: _Training(self, model, data, threads).run(), total=max(1, total))

    def pause(self) -> None:
        """Let the worker rest; its memory is kept."""
        self.paused = True
        self._tell_worker(b"pause\n")

    def resume(self) -> None:
        """Let the worker go on."""
        self.paused = False
        self._tell_worker(b"resume\n")

    def cancel(self) -> None:
        """End the training; started again, it goes on from where it was."""
        super().cancel()
        self._tell_worker(b"stop\n")

    def _tell_worker(self, command: bytes) -> None:
        worker = self._worker
        if worker is not None and worker.stdin is not None:
            with contextlib.suppress(OSError, ValueError):
                worker.stdin.write(command)
                worker.stdin.flush()


def train(model: Model, data: Dataset, recipe: Recipe, threads: int = 1) -> TrainingJob:
    """Start training the trained steps of ``recipe`` that have not been, and return the Job.

    Raises:
        WorkbenchError: no training data or no validation split, one class only, no trained step.
    """
    return TrainingJob(model, data, recipe, threads)


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
        artefact: Artefact | None = None
        for place, step in enumerate(steps):
            if step.cost is Cost.TRAINED:
                draft = draft_for(self._subject, Recipe(steps[:place]), self._context)
                artefact = self._one(step, draft)
                self._epochs += _settings(step).epochs
        assert artefact is not None, "a recipe without a trained step is refused"
        about = artefact.about
        return Trained(
            self._job.recipe,
            Estimate(**about["before"]),
            Estimate(**about["after"]),
            self._seconds,
            tuple(Point(**point) for point in about["curve"]),
            str(about["stopped"]),
        )

    def _one(self, step: Step, draft: Draft) -> Artefact:
        """Return what a step learned, training it where it was not."""
        settings, artefacts = _settings(step), self._context.artefacts
        key = training_key(step.technique, settings, draft, self._context)
        found = artefacts.find(key)
        if found is None:
            folder = artefacts.folder / "running"
            folder.mkdir(parents=True, exist_ok=True)
            with _alone(folder / f"{key}.lock"):
                request = self._request(step.technique, settings, draft, folder / f"{key}.checkpoint")
                self._attend(replace(request, result=artefacts.path(key)))
            found = artefacts.find(key)
            assert found is not None, "the worker said that it is done"
            self._seconds += float(found.about["seconds"])
        self._context.cache.forget(("trained", key))
        return found

    def _request(self, technique: str, settings: TrainingSettings, draft: Draft, checkpoint: Path) -> Request:
        train, validation, normalize = self._data["train"], self._data["validation"], self._context.normalization
        assert normalize is not None
        if settings.images is not None and settings.images < len(train):
            order = torch.randperm(len(train), generator=torch.Generator().manual_seed(settings.seed))
            train = train.take(order[: settings.images])
        images = TrainingImages(
            train.images, train.labels, normalize, min(settings.batch, len(train)), settings.augment, settings.seed
        )
        student = Student.of(draft, getattr(settings, "learn_steps", False))
        teacher = copy.deepcopy(draft.original).eval()
        held = validation.images, validation.labels
        return Request(technique, settings, student, teacher, images, held, checkpoint, Path(), self._threads)

    def _attend(self, request: Request) -> None:
        """Run a worker to its end. Raises ``Cancelled``, or ``WorkbenchError`` with its reason."""
        self._job.check()
        worker = self._job._worker = _start(request)
        assert worker.stdout is not None
        last: dict[str, Any] = {}
        try:
            for line in worker.stdout:
                last = json.loads(line)
                if last["kind"] == "course":
                    self._follow(last, request)
        finally:
            if worker.stdin is not None:
                with contextlib.suppress(OSError):
                    worker.stdin.close()
            worker.stdout.close()
            worker.wait()
            self._job._worker = None
        if last.get("kind") == "stopped":
            raise Cancelled
        if last.get("kind") != "done":
            raise WorkbenchError(
                last.get("error") or "The training's process ended by itself; start it again to go on from there."
            )

    def _follow(self, course: dict[str, Any], request: Request) -> None:
        job = self._job
        job.before = course["before"]
        job.curve = tuple(Point(**point) for point in course["curve"])
        job.advance(self._epochs + course["step"] / request.images.steps)


def _settings(step: Step) -> TrainingSettings:
    assert isinstance(step.settings, TrainingSettings)
    return step.settings


def _start(request: Request) -> subprocess.Popen[bytes]:
    import cloudpickle  # by value where a class was made in a notebook

    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_WAIT_POLICY": "PASSIVE"}
    worker = subprocess.Popen(
        [sys.executable, "-m", "workbench.train.worker"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment,
    )  # fmt: skip
    asked = cloudpickle.dumps(request)
    assert worker.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        worker.stdin.write(len(asked).to_bytes(8, "big") + asked)
        worker.stdin.flush()
    return worker


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the lock at ``path``. Raises ``WorkbenchError`` where another job does."""
    import fcntl

    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise WorkbenchError("This training is running already; wait for it, or cancel it first.") from error
        yield


def _check_data(data: Dataset, recipe: Recipe) -> None:
    """Raise ``WorkbenchError`` where ``recipe`` can't be trained on ``data``."""
    if not any(step.cost is Cost.TRAINED for step in recipe.steps):
        raise WorkbenchError("The recipe has no step that trains: add one, such as finetune.")
    for name in ("train", "validation"):
        if name not in data.splits or not len(data[name]):
            raise WorkbenchError(f"Training needs a split '{name}', which '{data.name}' has not: load it with one.")
        _check_labels(data[name], len(data.classes), data.name)


def _check_labels(split: Split, classes: int, name: str) -> None:
    low, high = int(split.labels.min()), int(split.labels.max())
    if low < 0 or high >= classes:
        raise WorkbenchError(
            f"Labels {low} to {high} of split '{split.name}' of '{name}' are out of range for {classes} classes."
        )
    if split.name == "train" and low == high:
        raise WorkbenchError(f"All training images of '{name}' are of class {low}: training needs two classes or more.")
