"""Models that are made on the page: fine-tuned on data with other classes than their own, or designed and taught."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import WorkbenchError

from .designing import design_from
from .opening import Misfit

if TYPE_CHECKING:
    from workbench.jobs import Progress
    from workbench.session import Session
    from workbench.train.creation import Creation
    from workbench.train.jobs.process import Place

#: What a transfer on the page is trained with; the Train tab has every setting for what comes after.
SETTINGS: Mapping[str, Any] = {"patience": 3}


def offers(misfit: Misfit) -> bool:
    """Return whether a new last layer is all that keeps the two apart, and there is something to train on."""
    from workbench.models.check import check_model

    model, data = misfit.model, misfit.data
    if model.input_shape is None or tuple(model.input_shape) != data.image_shape or len(data.classes) < 2:
        return False
    if not {"train", "validation"} <= data.splits.keys():
        return False
    return not check_model(model.module, data.image_shape)


def transfer_onto(misfit: Misfit) -> Task:
    """Return the training of the model that does not fit the data on them, with a new last layer."""
    from workbench.train.transfer import transfer

    title = f"Training {misfit.model.name} on {misfit.data.name}"
    return Task(title, lambda place: transfer(misfit.model, misfit.data, SETTINGS, place=place))


def teaching_by(session: Session, wish: dict[str, Any]) -> Task:
    """Return the training of the student that the page designed, by the session's model."""
    from workbench.train.teaching.designing import Distillation, designed

    def begin(place: Place | None) -> Creation:
        settings = {"epochs": int(wish.get("epochs", 12))}
        student = designed(design_from(wish), session.data)
        return Distillation(student, session.model, session.data, settings, place=place)

    scale = f"width × {wish.get('width', 1)}, depth × {wish.get('depth', 1)}"
    return Task(f"{session.model.name} teaches a {wish.get('base')} of {scale}", begin)


def told(misfit: Misfit | None) -> dict[str, Any]:
    """Return what could be trained on what, for the page; nothing where that would not help."""
    if misfit is None:
        return {}
    model, data = misfit.model, misfit.data
    return {"model": model.name, "data": data.name, "classes": len(data.classes), "images": len(data["train"])}


@dataclass(frozen=True)
class Task:
    """What is to be made: its ``title`` for the page, and what begins its training where it is to run."""

    title: str
    begin: Callable[[Place | None], Creation]


class Making:
    """One at a time; ``told`` hears how far it is, ``arrived`` of the file it came to, ``failed`` why not."""

    def __init__(
        self, told: Callable[[dict[str, Any]], None], arrived: Callable[[Path], None], failed: Callable[[str], None]
    ) -> None:
        self._told, self._arrived, self._failed = told, arrived, failed
        self._training: Creation | None = None
        self._title = ""
        self.place: Callable[[], Place | None] = lambda: None

    @property
    def running(self) -> bool:
        """Whether one is under way."""
        return self._training is not None and self._training.job.running

    def start(self, task: Task) -> threading.Thread | None:
        """Begin, unless one is under way; return the thread that waits for the end."""
        if self.running:
            return None
        self._title = task.title
        self._told({"title": task.title, "share": 0.0, "left": None, "best": None})
        thread = threading.Thread(target=self._run, args=(task,), daemon=True, name="workbench-making")
        thread.start()
        return thread

    def cancel(self) -> None:
        """End it; the same one started again goes on from where it was."""
        if self._training is not None:
            self._training.job.cancel()

    def _run(self, task: Task) -> None:
        from workbench.train.creation import keep

        try:
            self._training = training = task.begin(self.place())
            training.job.subscribe(lambda progress: self._follow(training, progress))
            self._follow(training, training.job.progress)
            path = keep(training.result())
        except WorkbenchError as error:
            cancelled = self._training is not None and self._training.job.progress.state == "cancelled"
            self._failed("" if cancelled else str(error))
            return
        finally:
            self._training = None
        self._arrived(path)

    def _follow(self, training: Creation, progress: Progress) -> None:
        best = max((point.accuracy for point in training.job.curve), default=None)
        self._told({"title": self._title, "share": round(progress.share, 3), "left": progress.left, "best": best})
