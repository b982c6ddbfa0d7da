"""What work beside the sliders stands on: a sweep or a search shares what the engine knows, and none of its threads."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from workbench.measure.sampling import Sampler
from workbench.run.onnx_graph import OnnxGraph
from workbench.snapshot import Baseline
from workbench.subject import Subject
from workbench.techniques.context import Context


@dataclass(frozen=True)
class Footing:
    """What work beside the sliders needs to run images as the engine does, on threads of its own.

    ``images(first, last)`` are normalised and in the order of ``sampler``; ``graph`` is None where PyTorch
    runs them. ``context`` is the work's own, so that it does not push out what the person's recipes cached.
    ``timing`` is held while time is measured: no images run meanwhile. In another process nothing is timed.
    """

    subject: Subject
    graph: OnnxGraph | None
    sampler: Sampler
    images: Callable[[int, int], Tensor]
    context: Context
    baseline: Baseline
    runtime: str
    timing: AbstractContextManager[Any]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "timing": nullcontext()}  # the lock stays in its process
