"""A rehearsal: a session's own images sent through the file that would be deployed, watched as it would be.

The file really runs in ONNX Runtime, one image at a time, with the dense model beside it on a sample; only the
traffic is staged. It can be changed on purpose, to see whether the monitor would notice.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from workbench.analyze.corruptions import corrupt
from workbench.deploy.onnx_formats import OnnxFloat
from workbench.deploy.writing import source_for
from workbench.int8 import runs_int8
from workbench.recipe import Recipe
from workbench.run.runner import OnnxRunner
from workbench.session import Session

from .reference import MonitorError, Reference
from .shadow import Shadow
from .watch import Monitor

#: What can be done to the traffic: name → what it is called.
CHANGES = {
    "": "as in the test set", "noise": "noise", "blur": "blurred", "contrast": "less contrast",
    "class": "one class only",
}  # fmt: skip
#: Images that tell what is normal, the share that the dense model answers too, and the strength of a change.
NORMAL, EVERY, STRENGTH = 1_000, 10, 2


class Rehearsal:
    """Sends images of ``session``'s split through ``monitor``, in an order drawn from ``seed``, over and over."""

    def __init__(
        self, session: Session, recipe: Recipe, *, seed: int = 0, check: Callable[[], None] = lambda: None
    ) -> None:
        """Learn what is normal from images that were not trained on; ``check`` may raise to give up.

        Raises:
            WorkbenchError: the model cannot be written as ONNX, or the data have no split to learn from.
        """
        splits = session.data.splits
        if "validation" not in splits:
            raise MonitorError(f"'{session.data.name}' has no validation split, which would tell what is normal.")
        self.recipe = recipe
        self._session = session
        runner = OnnxRunner(_deployed(session, recipe), 1)
        check()
        validation = splits["validation"]
        normal = validation.images[validation.drawn(NORMAL)]
        reference = Reference.of(runner, session.normalization(normal))
        check()
        self._shadow = Shadow(OnnxRunner(session.onnx_file(Recipe()), 1))
        self.monitor = Monitor(runner, reference, self._shadow, EVERY)
        labels = session.split.labels
        self._order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
        self._one_class = self._order[labels[self._order] == labels[self._order[0]]]
        self._next = 0

    def serve(self, count: int, change: str = "") -> float:
        """Ask for the next ``count`` images one at a time, changed as ``CHANGES`` says; return the seconds it took."""
        images = self._session.normalization(self._take(count, change)).contiguous()
        start = time.perf_counter()
        for image in images.split(1):
            self.monitor.logits(image)
        return time.perf_counter() - start

    def close(self) -> None:
        """End the shadow."""
        self._shadow.close()

    def _take(self, count: int, change: str) -> Tensor:
        if change not in CHANGES:
            raise MonitorError(
                f"Traffic cannot be changed by '{change}'; it can by {', '.join(filter(None, CHANGES))}."
            )
        order = self._one_class if change == "class" else self._order
        places = order[(self._next + torch.arange(count)) % len(order)]
        self._next += count
        images = self._session.split.images[places]
        return images if change in ("", "class") else corrupt(images, change, STRENGTH, seed=self._next)


def _deployed(session: Session, recipe: Recipe) -> bytes:
    """Return the ONNX file that an export writes: unlike the one that is timed, its inputs are rounded as the recipe
    says where no integer kernel does it.
    """
    if runs_int8(session.compress(recipe)):
        return session.onnx_file(recipe)
    return bytes(OnnxFloat().model(source_for(session, recipe)).SerializeToString())
