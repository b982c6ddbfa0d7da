"""Transfer: a trained model, a new last layer, and a person's own images (Yosinski et al. 2014)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import nn

from workbench.data.dataset import Dataset
from workbench.errors import WorkbenchError
from workbench.models.designs import design_of, made
from workbench.models.heads import with_classes
from workbench.models.model import Model

from .creation import Creation
from .jobs.process import Place

#: Unless said otherwise: longer than to win back what compression lost.
EPOCHS = 8


class Transfer(Creation):
    """The training of ``model``, which has a new last layer, on ``data``; ``job`` tells how far it is."""

    def __init__(
        self,
        model: Model,
        data: Dataset,
        settings: Mapping[str, Any] | None = None,
        threads: int = 1,
        place: Place | None = None,
    ) -> None:
        """Start training.

        Raises:
            WorkbenchError: the data have no training images, one class only, or images of another size;
                the model has no last layer to replace.
        """
        if model.input_shape is not None and tuple(model.input_shape) != data.image_shape:
            raise WorkbenchError(
                f"{model.name} takes images of {model.input_shape} (channels, height, width), and those of "
                f"{data.name} are {data.image_shape}: load the folder with image_size= and channels=."
            )
        self._came_from = model
        known = dataclasses.replace(model, input_shape=data.image_shape)
        step = {"finetune": {"epochs": EPOCHS, **(settings or {})}}
        super().__init__(with_classes(known, len(data.classes)), data, step, threads, place)

    def name(self, module: nn.Module, reached: str, about: Mapping[str, Any]) -> Model:
        """Return the model, called after where it came from and what it was trained on."""
        origin, design = self._came_from, design_of(self._came_from)
        if design is not None:
            design = dataclasses.replace(design, classes=len(self.data.classes))
        note = f"{origin.name} with a new last layer, trained on {self.data.name}: {reached}."
        model = dataclasses.replace(
            self.model, name=f"{origin.name}-{self.data.name}", module=module, notes=(note,),
            normalization=origin.normalization or self.data.normalization,
        )  # fmt: skip
        return made(model, design, transferred_from=origin.name, **about)


def transfer(
    model: Model,
    data: Dataset,
    settings: Mapping[str, Any] | None = None,
    threads: int = 1,
    place: Place | None = None,
) -> Transfer:
    """Give ``model`` a last layer for the classes of ``data``, start training all of it there, and return that.

    ``settings`` are those of the technique ``finetune``.
    """
    return Transfer(model, data, settings, threads, place)
