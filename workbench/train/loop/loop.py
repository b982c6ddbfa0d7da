"""The training loop: one for every trained technique.

A loop of our own, of a hundred lines, rather than skorch or Lightning Fabric: it has to go on after a kill to
the very same numbers, from the middle of an epoch, and both keep order, chance and position of the batches
where a checkpoint does not reach. Here all of them follow from (seed, epoch, step), so that a checkpoint is
tensors and a step number. Early stopping and the best state go by the validation split, never by the test.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from workbench.counting import counted
from workbench.encodings.artefacts import Artefact
from workbench.errors import WorkbenchError
from workbench.measure.estimate import Estimate
from workbench.models.tensors import load_tensors, tensors_of
from workbench.techniques.trained import TrainingSettings

from ..images.passes import TrainingImages
from ..method import Method, Moment
from ..student import Student
from .stepping import Stepper

#: Seconds between two checkpoints.
CHECKPOINT_SECONDS = 20.0
#: Seconds between two reports within an epoch.
PACE = 0.25


@dataclass(frozen=True)
class Point:
    """One epoch of a training's curve: mean loss, validation accuracy (a share) and seconds since the start."""

    epoch: int
    loss: float
    accuracy: float
    seconds: float


@dataclass
class Course:
    """How far a training has come; all that a checkpoint holds beside tensors."""

    step: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    best_epoch: int = 0
    best_accuracy: float = -1.0
    before: float = 0.0
    curve: list[Point] = field(default_factory=list)
    stepping: dict[str, Any] = field(default_factory=dict)

    @property
    def note(self) -> str:
        """What was found about the steps before the first one."""
        return " ".join(self.stepping.get("notes", ()))


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a training came to: the best epoch's tensors, its accuracy and the one before, the curve, seconds."""

    learned: Mapping[str, Tensor]
    before: Estimate
    after: Estimate
    curve: tuple[Point, ...]
    seconds: float
    stopped: str = ""
    note: str = ""


class Stopped(Exception):
    """The training was asked to end; what it learned so far is in its checkpoint."""


class Trainer:
    """Trains ``student`` by ``method``; ``check`` raises to end it, ``report`` is told how far it is."""

    def __init__(
        self,
        student: Student,
        method: Method[Any],
        teacher: nn.Module,
        images: TrainingImages,
        validation: tuple[Tensor, Tensor],
        checkpoint: Path | None = None,
        check: Callable[[], None] = lambda: None,
        report: Callable[[Course], None] = lambda _: None,
    ) -> None:
        self.student, self.method, self.images = student, method, images
        self.settings: TrainingSettings = method.settings
        self.objective = method.objective(teacher)
        self.objective.watch(student)
        self.course = Course()
        self._validation, self._checkpoint = validation, checkpoint
        self._check, self._report = check, report
        self._optimizer = _optimizer(student, self.objective, method)
        self._stepper = Stepper(student, method, self.objective, self._optimizer)
        self._total = method.epochs * images.steps
        self._best: dict[str, Tensor] = {}
        self._begin = 0.0

    def run(self) -> Outcome:
        """Train to the end, from a checkpoint where there is one.

        Raises:
            Stopped: ``check`` ended it; the checkpoint is written.
            WorkbenchError: the loss is no number any more before one epoch was through, or a checkpoint
                can't be written.
        """
        if self._checkpoint is not None:
            self.objective.ready(self.images, self._checkpoint.parent.parent, self._check)
        if not self._restore():
            self.course.before = self._accuracy()
            self.method.begin(self.student)
            self._keep_if_best(0, self.course.before)
            self._prepare()
        self._begin = time.monotonic() - self.course.seconds
        stopped = self._judge_late()
        try:
            for epoch in range(self.course.step // self.images.steps, self.method.epochs):
                if stopped:
                    break
                self._give_way()
                stopped = self._epoch(epoch) or self._judge(epoch)
        except Stopped:
            self._save()
            raise
        return self._outcome(stopped)

    def _give_way(self) -> None:
        """Rest while asked to, and end where asked to; the time at rest is no time of training."""
        before = time.monotonic()
        self._check()
        self._begin += time.monotonic() - before

    def _epoch(self, epoch: int) -> str:
        """Train one pass; return why it can't go on, or nothing.

        After its last step neither is a checkpoint written nor is it ended: the epoch is judged first, since whoever
        goes on from there begins with the next one.
        """
        saved = told = time.monotonic()
        self.method.set_mode(self.student, self._moment())
        first = self.course.step - epoch * self.images.steps
        for batch in self.images.batches(epoch, first):
            loss = self._stepper.take(batch, self._moment())
            self.course.step += 1
            now = time.monotonic()
            self.course.seconds = now - self._begin
            if not math.isfinite(loss):
                return self._not_a_number()
            self.course.loss_sum += loss
            if self._out_of_time():
                return self._in_time(epoch)
            if now - told >= PACE:
                told = now
                self._report(self.course)
            if self.course.step == (epoch + 1) * self.images.steps:
                break
            if now - saved >= CHECKPOINT_SECONDS:
                saved = now
                self._save()
            self._give_way()
        return ""

    def _judge_late(self) -> str:
        """Judge an epoch that an earlier version had left unjudged in its checkpoint, after the last step."""
        course = self.course
        if not course.step or course.step % self.images.steps or not course.loss_sum:
            return ""
        self.method.set_mode(self.student, self._moment())
        return self._judge(course.step // self.images.steps - 1)

    def _prepare(self) -> None:
        """Let the stepper measure, and keep what it found: a resumed training must not find otherwise."""
        self._stepper.prepare(next(self.images.batches(0)), self._moment(), self._check)
        if self._stepper.notes:
            self._save()
            self._report(self.course)

    def _moment(self) -> Moment:
        return Moment(self.course.step, self._total, self.images.steps)

    def _judge(self, epoch: int) -> str:
        """Measure the validation accuracy after an epoch; return why training ends early, or nothing."""
        course = self.course
        if not self.method.judges(epoch + 1):
            course.loss_sum = 0.0
            return ""
        accuracy = self._accuracy()
        course.seconds = time.monotonic() - self._begin
        course.curve.append(Point(epoch + 1, course.loss_sum / self.images.steps, accuracy, course.seconds))
        course.loss_sum = 0.0
        self._keep_if_best(epoch + 1, accuracy)
        self._save()
        self._report(course)
        patience = self.settings.patience
        # before something is kept there is nothing to be better than
        if patience is not None and self._best and epoch + 1 - course.best_epoch >= patience:
            return f"No better validation accuracy for {counted(patience, 'epoch')}."
        return ""

    def _out_of_time(self) -> bool:
        minutes = self.settings.minutes
        return minutes is not None and self.course.seconds >= 60 * minutes

    def _in_time(self, epoch: int) -> str:
        """Judge the state in which the time ran out, in the middle of an epoch; return why training ends."""
        course, accuracy = self.course, self._accuracy()
        done = course.step - epoch * self.images.steps
        course.curve.append(Point(epoch + 1, course.loss_sum / max(1, done), accuracy, course.seconds))
        self._keep_if_best(epoch + 1, accuracy)
        return f"The time of {self.settings.minutes:g} minutes is over."

    def _not_a_number(self) -> str:
        course = self.course
        shorter = "" if self.settings.gradient_clip else ", or shorten gradients that explode: gradient_clip = 5"
        sentence = f"The loss was no number any more at step {course.step}: take a smaller learning rate{shorter}."
        if not course.curve:
            raise WorkbenchError(sentence)
        return sentence

    def _keep_if_best(self, epoch: int, accuracy: float) -> None:
        better = self.settings.keep == "last" or accuracy > self.course.best_accuracy
        if better and self.method.finished(self._moment()):
            self.course.best_accuracy, self.course.best_epoch = accuracy, epoch
            self._best = self.student.learned()

    @torch.inference_mode()
    def _accuracy(self) -> float:
        self.student.eval()
        images, labels = self._validation
        right = 0
        values = self.student.values()
        for part, wanted in zip(images.split(256), labels.split(256), strict=True):
            logits = torch.func.functional_call(self.student.body, values, (self.images.normalize(part),))
            right += count_right(logits, wanted)
        return right / len(labels)

    def _outcome(self, stopped: str) -> Outcome:
        n = len(self._validation[1])
        course = self.course
        if not self._best:
            raise WorkbenchError(f"{stopped} Nothing was kept, since it had not been compressed as far as asked.")
        unmoved = "" if course.best_epoch else "No epoch was more accurate than the model was before: that is kept."
        return Outcome(
            self._best,
            Estimate.exact(course.before, n, "validation"),
            Estimate.exact(course.best_accuracy, n, "validation"),
            tuple(course.curve),
            course.seconds,
            stopped,
            f"{course.note} {unmoved}".strip(),
        )

    def _save(self) -> None:
        self.course.stepping = self._stepper.state()
        if self._checkpoint is None:
            return
        tensors = {f"student|{name}": tensor for name, tensor in tensors_of(self.student).items()}
        tensors |= {f"best|{name}": tensor for name, tensor in self._best.items()}
        tensors |= {f"objective|{name}": tensor for name, tensor in self.objective.state_dict().items()}
        for place, state in self._optimizer.state_dict()["state"].items():
            tensors |= {
                f"optimizer|{place}|{name}": torch.as_tensor(value)
                for name, value in state.items()
                if value is not None
            }
        try:
            Artefact(tensors, asdict(self.course)).save(self._checkpoint)
        except WorkbenchError as error:
            if not self._checkpoint.exists():
                raise
            raise WorkbenchError(f"{error} Started again, the training goes on from its last checkpoint.") from error

    def _restore(self) -> bool:
        """Go back to the checkpoint; return whether there was one."""
        if self._checkpoint is None or not self._checkpoint.exists():
            return False
        saved = Artefact.load(self._checkpoint)
        parts: dict[str, dict[str, Tensor]] = {"student": {}, "best": {}, "optimizer": {}, "objective": {}}
        for entry, tensor in saved.tensors.items():
            kind, _, name = entry.partition("|")
            parts[kind][name] = tensor
        load_tensors(self.student, parts["student"])
        self._best = parts["best"]
        self.objective.load_state_dict(parts["objective"])
        states: dict[int, dict[str, Any]] = {}
        for entry, tensor in parts["optimizer"].items():
            place, _, name = entry.partition("|")
            states.setdefault(int(place), {})[name] = tensor
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": states})
        about = dict(saved.about)
        self.course = Course(**{**about, "curve": [Point(**point) for point in about["curve"]]})
        if self.course.stepping:  # none in a checkpoint of an earlier version
            self._stepper.restore(self.course.stepping)
        return True


def count_right(logits: Tensor, labels: Tensor) -> int:
    """Return how many images are told right; one with a NaN among its logits has no answer."""
    return int(((logits.argmax(1) == labels) & ~logits.isnan().any(1)).sum())


def _optimizer(student: Student, objective: nn.Module, method: Method[Any]) -> torch.optim.Optimizer:
    settings: TrainingSettings = method.settings
    groups = [*student.groups(settings.weight_decay, method.paces()), {"params": list(objective.parameters())}]
    groups = [{"pace": 1.0, "weight_decay": 0.0, **group} for group in groups if group["params"]]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, settings.learning_rate)
    return torch.optim.SGD(groups, settings.learning_rate, 0.9, nesterov=True)
