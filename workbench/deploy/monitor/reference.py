"""What was normal: samples of every feature and the shares of the classes, from images not trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workbench.counting import counted
from workbench.data.dataset import shown_shape
from workbench.errors import WorkbenchError
from workbench.run.runner import Runner

from .features import FEATURES, of_images, of_logits, thinning

FORMAT = 2  # 1: features of whole images
#: Values kept of a feature: at evenly spaced ranks, so that distributions are known to 1/2,000.
SAMPLES = 2_000
_BATCH = 64


class MonitorError(WorkbenchError):
    """A model cannot be watched as asked."""


@dataclass(frozen=True, eq=False)
class Reference:
    """``samples``: sorted values by feature; ``classes``: answers by class; ``images``: how many were seen."""

    samples: Mapping[str, NDArray[np.float64]]
    classes: NDArray[np.int64]
    images: int
    shape: tuple[int, ...]

    @classmethod
    def of(cls, runner: Runner, images: Tensor) -> Reference:
        """Return what ``runner`` makes of normalised ``images``, of which there must be 500 at least.

        Take images that the model was not trained on: on those it was, it is surer than it will ever be. Raises
        ``MonitorError`` for images of another size than the model's.
        """
        fixed = _declared(runner, tuple(images.shape[1:]))
        batch = fixed or _BATCH
        images = images[: len(images) // batch * batch] if fixed else images
        if len(images) < 500:
            raise MonitorError(f"A reference needs 500 images at least, not {len(images)}: distributions are compared.")
        logits = np.concatenate([_answers(runner, part) for part in images.split(batch)])
        found = {**of_images(images.numpy()[thinning(images.shape[1:])]), **of_logits(logits)}
        ranks = np.linspace(0, len(images) - 1, min(SAMPLES, len(images))).round().astype(int)
        samples = {name: np.sort(found[name].astype(np.float64))[ranks] for name in FEATURES}
        classes = np.bincount(logits.argmax(1), minlength=logits.shape[1])
        return cls(samples, classes, len(images), tuple(images.shape[1:]))

    def require(self, runner: Runner) -> None:
        """Raise ``MonitorError`` where ``runner`` takes other images or tells other classes apart; it runs once."""
        batch = _declared(runner, self.shape) or 1
        require_classes(_answers(runner, torch.zeros(batch, *self.shape)), len(self.classes))

    def save(self, path: str | Path) -> None:
        """Write it as JSON; raises ``MonitorError`` where that cannot be done."""
        data = {
            "format": FORMAT, "images": self.images, "shape": list(self.shape), "classes": self.classes.tolist(),
            "samples": {name: [float(f"{value:.6g}") for value in values] for name, values in self.samples.items()},
        }  # fmt: skip
        try:
            Path(path).write_text(json.dumps(data), encoding="utf-8")
        except OSError as error:
            raise MonitorError(f"The reference cannot be written to '{path}': {error.strerror}.") from error

    @classmethod
    def load(cls, path: str | Path) -> Reference:
        """Read what ``save`` wrote; raises ``MonitorError`` for anything else."""
        try:
            data: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
            if data["format"] != FORMAT:
                raise MonitorError(f"'{path}' is a reference of format {data['format']}; this version reads {FORMAT}.")
            samples = {name: np.asarray(data["samples"][name], np.float64) for name in FEATURES}
            return cls(samples, np.asarray(data["classes"], np.int64), int(data["images"]), tuple(data["shape"]))
        except OSError as error:
            raise MonitorError(f"The reference '{path}' cannot be read: {error.strerror}.") from error
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, MonitorError):
                raise
            raise MonitorError(f"'{path}' is no reference of a monitor: make one with --save-reference.") from error


def require_classes(logits: NDArray[np.float32], classes: int) -> None:
    """Raise ``MonitorError`` unless ``logits`` ``(N, classes)`` are of as many classes as the reference."""
    if logits.ndim != 2 or logits.shape[1] != classes:
        raise MonitorError(
            f"The model answers in shape {tuple(logits.shape)} and the reference has {counted(classes, 'class')}: "
            "make the reference of this model, with --data and --save-reference."
        )


def _answers(runner: Runner, images: Tensor) -> NDArray[np.float32]:
    try:
        return runner.logits(images)
    except Exception as error:  # what the runtime raises
        said = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise MonitorError(f"The model does not run on images of {shown_shape(tuple(images.shape))}: {said}") from error


def _declared(runner: Runner, shape: tuple[int, ...]) -> int | None:
    """Return how many images the model takes at a time, None where it is open.

    Raises ``MonitorError`` where it takes images of another shape than ``shape`` ``(C, H, W)``.
    """
    batch, *sides = getattr(runner, "takes", ()) or (None, *shape)
    if len(sides) != len(shape) or any(side not in (None, given) for side, given in zip(sides, shape, strict=True)):
        wanted = "×".join("?" if side is None else str(side) for side in sides)
        raise MonitorError(
            f"The model takes images of {wanted} (channels×height×width), and those that tell what is normal are "
            f"{shown_shape(shape)}: give the data it was made for."
        )
    found: int | None = batch
    return found
