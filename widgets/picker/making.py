"""Models that are made on the page: fine-tuned on data with other classes than their own, or designed and taught."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import WorkbenchError

from .opening import Misfit

if TYPE_CHECKING:
    from workbench.jobs import Progress
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

    def start(self, title: str, begin: Callable[[Place | None], Creation]) -> threading.Thread:
        """Begin; return the thread that waits for the end."""
        self._title = title
        self._told({"title": title, "share": 0.0, "left": None, "best": None})
        thread = threading.Thread(target=self._run, args=(begin,), daemon=True, name="workbench-making")
        thread.start()
        return thread

    def cancel(self) -> None:
        """End it; the same one started again goes on from where it was."""
        if self._training is not None:
            self._training.job.cancel()

    def _run(self, begin: Callable[[Place | None], Creation]) -> None:
        from workbench.train.creation import keep

        try:
            self._training = training = begin(self.place())
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
