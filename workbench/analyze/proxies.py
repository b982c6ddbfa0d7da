"""Metrics of sensitivity that need no sweep: from gradients, from curvature, or from the weights alone.

Each says for every cell of a Question how bad it foresees the cell to be, at a fraction of a sweep's cost; how well
it ranks this model's layers is found by comparing with the sweep (``ranking``). With Δ a cell's change of a layer's
weights, g the gradient of one image's loss, and H the Hessian of the mean loss, over calibration images:

- ``weight_error``: ‖Δ‖² / ‖w‖², from the weights alone.
- ``taylor``: E |g·Δ|, the loss's change to first order (Molchanov et al. 2017).
- ``fisher``: ½ E (g·Δ)² = ½ Δᵀ F Δ, F the empirical Fisher information of the layer, off-diagonals included.
- ``fit``: tr F / n · ‖Δ‖² (Zandonati et al. 2022, "FIT", of weights).
- ``hessian_trace``: tr H / n, by Hutchinson's probes; the same at every level (HAWQ-V2's importance).
- ``hawq``: tr H / n · ‖Δ‖² (Dong et al. 2020, "HAWQ-V2").
- ``conductance`` and ``grad_activation``: mean attribution of the right class to what the layer gives, by Captum
  (Dhamdhere et al. 2018; gradient × activation); the same at every level.

Those that look at the loss need labels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from torch import Tensor, nn

from workbench.compression import draft_for
from workbench.errors import WorkbenchError
from workbench.models.tensors import load_tensors
from workbench.recipe import Recipe
from workbench.subject import Subject
from workbench.techniques.context import Context

from .attributions import attribute_layers
from .curvature import gradient_products, hessian_traces
from .finding import Floats, Question

T = TypeVar("T")

#: Calibration images that gradients are taken of, and of which the Hessian is.
IMAGES, HESSIAN_IMAGES, ATTRIBUTED_IMAGES = 128, 64, 24
#: Hutchinson's probes.
PROBES = 16

PROXIES = ("weight_error", "taylor", "fisher", "fit", "hessian_trace", "hawq", "conductance", "grad_activation")
#: Those that look at no label.
LABEL_FREE = ("weight_error",)


@dataclass(frozen=True)
class Proxy:
    """What one metric says of every cell, ``score`` ``(layers, levels)``, the larger the worse; ``seconds`` it took.

    ``problem`` says why there is no score, which is NaN then.
    """

    name: str
    score: Floats
    seconds: float
    problem: str = ""


class ProxySource:
    """Computes the metrics of one ``question`` on the images of ``context``; ``check`` may raise in between."""

    def __init__(self, subject: Subject, context: Context, question: Question) -> None:
        self._subject, self._context, self._question = subject, context, question
        self._seconds: dict[str, float] = {}
        self._kept: dict[str, Any] = {}
        self._used: set[str] = set()
        self._fresh: set[str] = set()

    def find(self, name: str) -> Proxy:
        """Return one of ``PROXIES``; what several need is found once, and its time counts for each."""
        self._used, self._fresh = set(), set()
        start = time.perf_counter()
        shape = len(self._question.layers), len(self._question.levels)
        try:
            score = np.broadcast_to(self._score(name), shape).astype(np.float64)
            problem = ""
        except WorkbenchError as error:
            score, problem = np.full(shape, np.nan), str(error)
        shared = sum(self._seconds.get(what, 0.0) for what in self._used - self._fresh)  # found for an earlier metric
        return Proxy(name, score, time.perf_counter() - start + shared, problem)

    def _score(self, name: str) -> Floats:
        if name == "weight_error":
            squares = self._squares()
            sizes = [sum(float(before.square().sum()) for before, _ in row[0].values()) for row in self._changes()]
            return np.asarray(squares / np.maximum(np.array(sizes)[:, None], 1e-30))
        if name in ("taylor", "fisher", "fit"):
            first, second, trace = self._gradients()
            return {"taylor": first, "fisher": second / 2, "fit": trace[:, None] / self._counts * self._squares()}[name]
        if name in ("hessian_trace", "hawq"):
            mean = self._traces()[:, None] / self._counts
            return mean if name == "hessian_trace" else mean * self._squares()
        images, labels = self._images(ATTRIBUTED_IMAGES)
        layers = self._question.layers
        return attribute_layers(self._module(), layers, images, labels, name, self._context.check)[:, None]

    def _changes(self) -> list[list[dict[str, tuple[Tensor, Tensor]]]]:
        """Return for each cell the tensors that it changes: before and after."""
        return self._once("changes", lambda: [self._row(place) for place in range(len(self._question.layers))])

    def _row(self, place: int) -> list[dict[str, tuple[Tensor, Tensor]]]:
        question, before = self._question, self._subject.tensors
        group = question.groups[place] if question.groups else (question.layers[place],)
        names = [name for layer in self._subject.layers if layer.name in group for name in layer.weights]
        cells = []
        for level in question.levels:
            self._context.check()
            draft = draft_for(self._subject, question.recipe(question.layers[place], level), self._context)
            after = {name: draft.tensors[name] for name in names if name in draft.tensors}
            if any(tensor.shape != before[name].shape for name, tensor in after.items()) or len(after) < len(names):
                raise WorkbenchError("Removed channels leave no change of the weights to compare: this needs a sweep.")
            cells.append({name: (before[name], tensor) for name, tensor in after.items()})
        return cells

    def _squares(self) -> Floats:
        """Return ‖Δ‖² of every cell."""
        return np.array(
            [
                [sum(float((after - before).square().sum()) for before, after in cell.values()) for cell in row]
                for row in self._changes()
            ]
        )

    @property
    def _counts(self) -> Floats:
        """How many weights each row's layers have, ``(layers, 1)``."""
        return np.array([[sum(before.numel() for before, _ in row[0].values())] for row in self._changes()], np.float64)

    def _gradients(self) -> tuple[Floats, Floats, Floats]:
        def compute() -> tuple[Floats, Floats, Floats]:
            rows = [
                [{name: after - before for name, (before, after) in cell.items()} for cell in row]
                for row in self._changes()
            ]
            return gradient_products(self._module(), rows, *self._images(IMAGES), self._context.check)

        return self._once("gradients", compute)

    def _traces(self) -> Floats:
        def compute() -> Floats:
            groups = [tuple(row[0]) for row in self._changes()]
            images, labels = self._images(HESSIAN_IMAGES)
            return hessian_traces(self._module(), groups, images, labels, PROBES, self._context.check)[0]

        return self._once("traces", compute)

    def _once(self, what: str, compute: Callable[[], T]) -> T:
        self._used.add(what)
        if what not in self._kept:
            start = time.perf_counter()
            self._kept[what] = compute()
            self._seconds[what] = time.perf_counter() - start
            self._fresh.add(what)
        found: T = self._kept[what]
        return found

    def _images(self, count: int) -> tuple[Tensor, Tensor]:
        context = self._context
        if context.calibration is None or context.normalization is None:
            raise WorkbenchError("This metric looks at calibration images, and the data has none.")
        images, labels = context.mixed(count)
        if bool((labels < 0).any()):
            raise WorkbenchError("This metric looks at the loss, which needs labels, and these images have none.")
        return context.normalization(images), labels

    def _module(self) -> nn.Module:
        module = draft_for(self._subject, Recipe(), self._context).build()
        load_tensors(module, self._subject.tensors)
        return module


def find_proxies(
    subject: Subject, context: Context, question: Question, names: tuple[str, ...] = PROXIES
) -> Mapping[str, Proxy]:
    """Return what each of ``names`` says of every cell of ``question``.

    Raises ``WorkbenchError`` for an unknown name.
    """
    for name in names:
        if name not in PROXIES:
            raise WorkbenchError(f"There is no metric '{name}'; there are {', '.join(PROXIES)}.")
    source = ProxySource(subject, context, question)
    return {name: source.find(name) for name in names}
