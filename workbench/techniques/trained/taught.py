"""Settings of trained techniques that a teacher may help: the uncompressed model, by one of several losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, get_args

from pydantic import Field

from ..base import When
from .finetune import FinetuneSettings

#: How far a student is from its teacher; see ``distill``.
Loss = Literal["kl", "mse", "hint", "attention", "relation", "similarity"]
LOSSES: tuple[str, ...] = get_args(Loss)


class TaughtSettings(FinetuneSettings):
    """Fine-tuning, with or without a teacher."""

    when: ClassVar[Mapping[str, When]] = {
        **FinetuneSettings.when,
        "temperature": {"teacher": ("kl",)},
        "weight": {"teacher": LOSSES},
    }

    teacher: Literal["none", "kl", "mse", "hint", "attention", "relation", "similarity"] = Field(
        "none", description="Learn from the uncompressed model too, by one of the losses of distill."
    )
    temperature: float = Field(4.0, gt=0, le=100, description="How much probabilities are softened.")
    weight: float = Field(0.9, ge=0, le=1, description="The teacher's share of the loss; the labels have the rest.")


class BesideSettings(TaughtSettings):
    """Taught, with parameters that learn beside the weights: by AdamW, since their gradients are of another size."""

    optimizer: Literal["sgd", "adamw"] = Field("adamw", description="SGD with Nesterov momentum 0.9, or AdamW.")
    learning_rate: float = Field(0.002, gt=0, le=10, description="Step size at its highest.")
