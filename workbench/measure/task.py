"""What a model is judged by: a task turns outputs and targets into one figure an image and metric.

The estimator works on these vectors and needs to know nothing else of the task, so that another
task (text, detection) is one more class here and its name in ``TASKS``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.errors import WorkbenchError

#: From so many classes on, top-5 says something.
TOP5_CLASSES = 10


@dataclass(frozen=True)
class Metric:
    """One figure of a task. A ``share`` lies in 0..1 for each image; a ``mean`` may be any number."""

    name: str
    label: str
    kind: Literal["share", "mean"]
    higher_is_better: bool = True
    needs_baseline: bool = False


ACCURACY = Metric("accuracy", "top-1 accuracy", "share")
TOP5 = Metric("top5", "top-5 accuracy", "share")
LOSS = Metric("loss", "cross-entropy, nats", "mean", higher_is_better=False)
AGREEMENT = Metric("agreement", "same answer as the baseline", "share", needs_baseline=True)


class Task(Protocol):
    """Judges the outputs of a model, image by image."""

    @property
    def name(self) -> str:
        """The key in ``TASKS``."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What is measured, the headline first."""

    def score(
        self, output: ArrayLike, target: ArrayLike, baseline: ArrayLike | None = None
    ) -> dict[str, NDArray[np.float64]]:
        """Return a vector with one figure an image for each metric.

        ``baseline`` is the uncompressed model's output on the same images; without it the metrics that
        need it are left out.
        """


@dataclass(frozen=True)
class Classification:
    """One of ``classes`` classes an image: top-1, top-5 (from ten classes on), loss and agreement.

    Ties are broken by the lower class number, in top-1 and top-5 alike. An image whose logits hold a
    NaN has no answer: it is wrong, agrees with nothing, and its loss is infinite.
    """

    classes: int
    name: str = "classification"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Accuracy first; top-5 only where there are enough classes for it to tell anything."""
        top5 = (TOP5,) if self.classes >= TOP5_CLASSES else ()
        return (ACCURACY, *top5, LOSS, AGREEMENT)

    def score(
        self, output: ArrayLike, target: ArrayLike, baseline: ArrayLike | None = None
    ) -> dict[str, NDArray[np.float64]]:
        """Return vectors ``(N,)`` from logits ``(N, classes)``, labels ``(N,)`` and baseline logits.

        Tensors or arrays. Raises ``WorkbenchError`` where shapes or labels do not fit the classes.
        """
        logits, labels = self._logits(output), np.asarray(target)
        if labels.shape != (len(logits),):
            raise WorkbenchError(f"There are {len(logits)} outputs and labels of shape {labels.shape}.")
        if len(labels) and not (labels.min() >= 0 and labels.max() < self.classes):
            raise WorkbenchError(
                f"A label is {labels.max() if labels.max() >= self.classes else labels.min()}, and the model "
                f"has outputs for classes 0..{self.classes - 1}."
            )
        valid = ~np.isnan(logits).any(1)
        ranks = _ranks(logits, labels)
        scores = {"accuracy": (ranks == 0) & valid, "loss": _cross_entropy(logits, labels)}
        if self.classes >= TOP5_CLASSES:
            scores["top5"] = (ranks < 5) & valid
        if baseline is not None:
            scores["agreement"] = self._agreement(logits, self._logits(baseline))
        names = [metric.name for metric in self.metrics if metric.name in scores]
        return {name: scores[name].astype(np.float64) for name in names}

    def _agreement(self, logits: NDArray[np.float64], baseline: NDArray[np.float64]) -> NDArray[np.bool_]:
        if len(baseline) != len(logits):
            raise WorkbenchError(f"There are {len(logits)} outputs and {len(baseline)} of the baseline.")
        valid = ~(np.isnan(logits).any(1) | np.isnan(baseline).any(1))
        same: NDArray[np.bool_] = (logits.argmax(1) == baseline.argmax(1)) & valid
        return same

    def _logits(self, output: ArrayLike) -> NDArray[np.float64]:
        detached = output.detach().cpu().float() if hasattr(output, "detach") else output
        logits = np.asarray(detached, dtype=np.float64)
        if logits.ndim != 2 or logits.shape[1] != self.classes:
            raise WorkbenchError(
                f"The model's output has shape {logits.shape}, and the data have {self.classes} classes: "
                f"(images, {self.classes}) is needed."
            )
        return logits


def _ranks(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many classes come before the right one; argmax's rule on ties."""
    own = np.take_along_axis(logits, labels[:, None], 1)
    earlier = np.arange(logits.shape[1]) < labels[:, None]
    ranks: NDArray[np.int64] = ((logits > own) | ((logits == own) & earlier)).sum(1)
    return ranks


def _cross_entropy(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore", over="ignore"):
        shifted = logits - logits.max(1, keepdims=True)
        own = np.take_along_axis(shifted, labels[:, None], 1)[:, 0]
        loss: NDArray[np.float64] = np.log(np.exp(shifted).sum(1)) - own
    return np.where(np.isnan(loss), np.inf, loss)


#: name -> constructor from the class names of a dataset.
TASKS: dict[str, Callable[[Sequence[str]], Task]] = {"classification": lambda classes: Classification(len(classes))}


def find_task(name: str, classes: Sequence[str]) -> Task:
    """Return the task called ``name`` (as in ``Dataset.task``) for ``classes``; raise if unknown."""
    if name not in TASKS:
        raise WorkbenchError(f"There is no task '{name}'; there is {', '.join(TASKS)}.")
    return TASKS[name](classes)
