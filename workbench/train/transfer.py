"""Transfer: a trained model, a new last layer, and a person's own images (Yosinski et al. 2014).

What comes out is a model like any other, to be compressed from there: its accuracy is the baseline. It is
trained by the very job of ``finetune``, in a process of its own, and so is resumed as that is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.compression import compress
from workbench.data.dataset import Dataset
from workbench.data.paths import user_folder
from workbench.errors import WorkbenchError
from workbench.models.designs import design_of, made, save_model
from workbench.models.heads import with_classes
from workbench.models.model import Model
from workbench.recipe import Recipe

from .jobs.job import Trained, TrainingJob, train
from .jobs.process import Place

#: Unless said otherwise: longer than to win back what compression lost.
EPOCHS = 8


class Transfer:
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
        known = dataclasses.replace(model, input_shape=data.image_shape)
        self.data, self.recipe = data, Recipe.parse([{"finetune": {"epochs": EPOCHS, **(settings or {})}}])
        self.model = with_classes(known, len(data.classes))
        self._came_from = model
        self.job: TrainingJob = train(self.model, data, self.recipe, threads, place)

    def result(self) -> Model:
        """Wait for the training's end and return the trained model; raises as ``Job.result`` does."""
        trained: Trained = self.job.result()
        compressed = compress(self.model, self.recipe, self.data)
        origin, design = self._came_from, design_of(self._came_from)
        if design is not None:
            design = dataclasses.replace(design, classes=len(self.data.classes))
        about = {
            "transferred_from": origin.name, "dataset": self.data.name, "classes": list(self.data.classes),
            "recipe": self.recipe.to_data(), "validation": trained.after.to_json(), "seconds": trained.took,
        }  # fmt: skip
        note = (
            f"{origin.name} with a new last layer, trained on {self.data.name}: {trained.after.value:.2%} of "
            f"{trained.after.n:,} validation images."
        )
        model = dataclasses.replace(
            self.model, name=f"{origin.name}-{self.data.name}", module=compressed.module.eval(), notes=(note,),
            normalization=self._came_from.normalization or self.data.normalization,
        )  # fmt: skip
        return made(model, design, **about)


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


def keep(model: Model) -> Path:
    """Write a model that was made here below the workbench's home, and return its file."""
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in model.name)
    path = user_folder() / "models" / f"{safe}.safetensors"
    save_model(model, path)
    return path
