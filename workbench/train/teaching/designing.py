"""A student designed before it is trained: a zoo architecture made narrower or shallower, taught by a model.

``figures`` says what a design would weigh and how long it would take, with weights of chance; ``distil`` trains it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from workbench.data.dataset import Dataset
from workbench.errors import WorkbenchError
from workbench.measure.estimate import Latency
from workbench.models.designs import Design, design_of, made
from workbench.models.model import Model
from workbench.run.onnx_export import export_graph
from workbench.run.onnx_graph import ExportError
from workbench.subject import Subject

from ..creation import Creation, keep
from ..jobs.process import Place

#: From weights of chance, so longer than what wins accuracy back.
SETTINGS: Mapping[str, Any] = {"epochs": 12, "learning_rate": 0.05}


@dataclass(frozen=True)
class Figures:
    """What a model needs before anything is compressed: parameters, bytes in fp32, multiplications, milliseconds.

    ``latency`` is measured at batch 1 in ONNX Runtime on this machine; None where the model does not export.
    """

    parameters: int
    bytes: int
    macs: int
    latency: Latency | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {**asdict(self), "latency": None if self.latency is None else self.latency.to_json()}


def designed(design: Design, data: Dataset, seed: int = 0) -> Model:
    """Return the model of ``design`` for the images and classes of ``data``, with weights of chance.

    Raises:
        WorkbenchError: the architecture takes other images.
    """
    fitting = dataclasses.replace(design, classes=len(data.classes))
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        try:
            module = fitting.build(data.image_shape)
            with torch.inference_mode():
                module.eval()(torch.zeros(2, *data.image_shape))
        except RuntimeError as error:
            raise WorkbenchError(
                f"{design.base} does not take the images of {data.name}, {data.image_shape} (channels, height, width)."
            ) from error
    name = f"{design.base}-w{design.width:g}-d{design.depth:g}"
    model = Model(name, module.requires_grad_(False), "module", data.image_shape, data.normalization)
    return made(model, fitting)


def figures(model: Model, data: Dataset, cancelled: Callable[[], bool] = lambda: False, timed: bool = True) -> Figures:
    """Return what ``model`` needs on an image of ``data``; ``timed``: its latency is measured too."""
    subject = Subject.of(model, data.image_shape)
    parameters = sum(parameter.numel() for parameter in model.module.parameters())
    found = Figures(parameters, subject.dense_fp32_bytes, sum(layer.macs for layer in subject.layers))
    if not timed:
        return found
    from workbench.measure.latency import measure_latency

    try:
        file = export_graph(model.module, data.image_shape).build(model.module.state_dict())
    except ExportError:
        return found
    if cancelled():
        return found
    return dataclasses.replace(found, latency=measure_latency(file, data.image_shape, seconds=0.3, cancelled=cancelled))


class Distillation(Creation):
    """The training of a ``student`` with weights of chance by ``teacher`` on ``data``; ``job`` tells how far it is."""

    def __init__(
        self,
        student: Model,
        teacher: Model,
        data: Dataset,
        settings: Mapping[str, Any] | None = None,
        threads: int = 1,
        place: Place | None = None,
    ) -> None:
        """Start training.

        Raises:
            WorkbenchError: as ``train``; the teacher cannot be named in a recipe, or tells other classes apart.
        """
        self._teacher = teacher
        step = {"distill": {**SETTINGS, "teacher": named(teacher), **(settings or {})}}
        super().__init__(student, data, step, threads, place)

    def name(self, module: nn.Module, reached: str, about: Mapping[str, Any]) -> Model:
        """Return the student, with a note that says who taught it."""
        note = f"Taught by {self._teacher.name} on {self.data.name}: {reached}."
        model = dataclasses.replace(self.model, module=module, notes=(note,))
        return made(model, design_of(self.model), teacher=self._teacher.name, **about)


def named(teacher: Model) -> str:
    """Return what a recipe calls ``teacher``: its zoo name, its hub's, or a file that is kept of it.

    Raises:
        WorkbenchError: nothing says how it is built, so that no file could be opened by itself.
    """
    if teacher.origin == "zoo":
        return teacher.name
    if teacher.origin in ("torchvision", "timm"):
        return f"{teacher.origin}:{teacher.name}"
    if design_of(teacher) is None:
        raise WorkbenchError(
            f"{teacher.name} cannot teach a designed student, since nothing says how it is built: export it to ONNX "
            "and name that file as the teacher of a distill step."
        )
    return str(keep(teacher))
