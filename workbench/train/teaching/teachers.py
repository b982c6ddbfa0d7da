"""Who teaches: the uncompressed model, the student as it came, or any other model that tells the same classes apart."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from workbench.counting import counted
from workbench.data.dataset import Dataset, Normalization
from workbench.errors import WorkbenchError
from workbench.models.load import load_model
from workbench.reopening import load_compressed
from workbench.techniques.draft import Draft
from workbench.techniques.trained import TrainingSettings


def teacher_of(settings: TrainingSettings, draft: Draft, data: Dataset, seen: Normalization) -> nn.Module:
    """Return the teacher that ``settings`` name, for a student that sees images normalised by ``seen``.

    Raises:
        WorkbenchError: there is no such model, it takes other images, or it tells other classes apart.
    """
    name = settings.by
    if name == "uncompressed":
        return uncompressed(draft)
    if name == "itself":
        return draft.build()
    return load_teacher(name, data, seen)


def load_teacher(name: str, data: Dataset, seen: Normalization) -> nn.Module:
    """Return the model ``name`` as a teacher on ``data``, whose images are normalised by ``seen``."""
    return _fitting(*_load(name), name, data, seen)


def uncompressed(draft: Draft) -> nn.Module:
    """Return the uncompressed model, rewritten as the draft is, so that single layers' outputs compare too."""
    teacher = copy.deepcopy(draft.original).eval()
    own = teacher.state_dict()
    if all(name in own and own[name].shape == value.shape for name, value in draft.rewritten.items()):
        teacher.load_state_dict(draft.rewritten, strict=False)
    return teacher


def _load(name: str) -> tuple[nn.Module, Normalization | None]:
    if Path(name).suffix.lower() == ".wbz":
        loaded = load_compressed(name)  # of a zoo model: nothing else is opened without its code
        return loaded.module.eval(), load_model(str(loaded.archive.model["name"])).normalization
    model = load_model(name)
    return copy.deepcopy(model.module).eval(), model.normalization


def _fitting(
    module: nn.Module, normal: Normalization | None, name: str, data: Dataset, seen: Normalization
) -> nn.Module:
    """Return ``module`` as a teacher on ``data``, once it has been tried on one image."""
    if normal is not None and normal != seen:
        module = Renormalized(module, seen, normal)
    try:
        with torch.inference_mode():
            answers = module(torch.zeros(2, *data.image_shape))
    except (RuntimeError, WorkbenchError) as error:
        raise WorkbenchError(
            f"The teacher {name} does not take the images of {data.name}, {data.image_shape} (channels, height, "
            "width): take one trained on images of that size."
        ) from error
    if not isinstance(answers, Tensor) or answers.ndim != 2 or answers.shape[1] != len(data.classes):
        found = (
            counted(answers.shape[1], "class") if isinstance(answers, Tensor) and answers.ndim == 2 else "other things"
        )
        raise WorkbenchError(
            f"The teacher {name} tells {found} apart, and {data.name} has {len(data.classes)}: take a teacher of "
            "these classes, or give it a new last layer first (workbench train --transfer)."
        )
    return module


class Renormalized(nn.Module):
    """A module behind the normalisation it was trained with, on images that have another one."""

    def __init__(self, module: nn.Module, seen: Normalization, own: Normalization) -> None:
        super().__init__()
        self.module = module
        shape = (1, -1, 1, 1)
        std, own_std = torch.tensor(seen.std).view(shape), torch.tensor(own.std).view(shape)
        self.register_buffer("scale", std / own_std)
        self.register_buffer(
            "shift", (torch.tensor(seen.mean).view(shape) - torch.tensor(own.mean).view(shape)) / own_std
        )
        self.scale: Tensor
        self.shift: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """Return the module's answers."""
        answers: Tensor = self.module(images * self.scale + self.shift)
        return answers
