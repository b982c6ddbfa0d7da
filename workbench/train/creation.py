"""New models by training: what a transfer and a designed student have in common.

They are trained by the very job of a trained technique, in a process of its own, and so are resumed as that is. What
comes out is a model like any other, to be compressed from there: its accuracy is the baseline.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from workbench.compression import compress
from workbench.data.dataset import Dataset
from workbench.data.paths import user_folder
from workbench.models.designs import save_model
from workbench.models.model import Model
from workbench.recipe import Recipe

from .jobs.job import Trained, TrainingJob, train
from .jobs.process import Place


class Creation(ABC):
    """The training of ``model`` on ``data`` by one trained technique; ``job`` tells how far it is."""

    def __init__(
        self, model: Model, data: Dataset, step: Mapping[str, Mapping[str, Any]], threads: int, place: Place | None
    ) -> None:
        """Start training ``step``: the technique's name → its settings. Raises what ``train`` raises."""
        self.model, self.data = model, data
        self.recipe = Recipe.parse([{name: dict(settings) for name, settings in step.items()}])
        self.job: TrainingJob = train(model, data, self.recipe, threads, place)

    def result(self) -> Model:
        """Wait for the training's end and return the trained model; raises as ``Job.result`` does."""
        trained: Trained = self.job.result()
        module = compress(self.model, self.recipe, self.data).module.eval()
        about = {
            "dataset": self.data.name, "classes": list(self.data.classes), "recipe": self.recipe.to_data(),
            "validation": trained.after.to_json(), "seconds": trained.took,
        }  # fmt: skip
        return self.name(module, f"{trained.after.value:.2%} of {trained.after.n:,} validation images", about)

    @abstractmethod
    def name(self, module: nn.Module, reached: str, about: Mapping[str, Any]) -> Model:
        """Return ``module`` as a model that says where it comes from and what it ``reached``."""


def keep(model: Model) -> Path:
    """Write a model that was made here below the workbench's home, and return its file."""
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in model.name)
    path = user_folder() / "models" / f"{safe}.safetensors"
    save_model(model, path)
    return path
