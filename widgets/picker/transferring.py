"""A model fine-tuned on data with other classes than its own, so that both can be opened together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import WorkbenchError

from .opening import Misfit

if TYPE_CHECKING:
    from workbench.jobs import Progress
    from workbench.train.process import Place
    from workbench.train.transfer import Transfer

#: What a transfer in the page is trained with; the Train tab has every setting for what comes after.
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


class Transferring:
    """One transfer at a time; ``told`` hears how far it is, ``arrived`` of the file it came to, ``failed`` why not."""

    def __init__(
        self, told: Callable[[dict[str, Any]], None], arrived: Callable[[Path], None], failed: Callable[[str], None]
    ) -> None:
        self._told, self._arrived, self._failed = told, arrived, failed
        self._training: Transfer | None = None
        self.place: Callable[[], Place | None] = lambda: None

    @property
    def running(self) -> bool:
        """Whether one is under way."""
        return self._training is not None and self._training.job.running

    def start(self, misfit: Misfit) -> threading.Thread:
        """Begin with what did not fit; return the thread that waits for the end."""
        thread = threading.Thread(target=self._run, args=(misfit,), daemon=True, name="workbench-transfer")
        thread.start()
        return thread

    def cancel(self) -> None:
        """End it; the same one started again goes on from where it was."""
        if self._training is not None:
            self._training.job.cancel()

    def _run(self, misfit: Misfit) -> None:
        from workbench.train.transfer import keep, transfer

        try:
            self._training = training = transfer(misfit.model, misfit.data, SETTINGS, place=self.place())
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

    def _follow(self, training: Transfer, progress: Progress) -> None:
        curve = training.job.curve
        best = max((point.accuracy for point in curve), default=None)
        self._told({"share": round(progress.share, 3), "left": progress.left, "best": best, "epochs": len(curve)})
