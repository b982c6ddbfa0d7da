"""Settings of trained techniques that a teacher may help, by one of several losses: the uncompressed model, or another.

Losses and teachers are those of ``distill``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self, get_args

from pydantic import Field, model_validator

from workbench.models.zoo import ARCHITECTURES

from ..base import When
from .finetune import FinetuneSettings

#: How far a student is from its teacher; see ``distill``.
Loss = Literal["kl", "mse", "hint", "attention", "relation", "similarity"]
LOSSES: tuple[str, ...] = get_args(Loss)


def require_answers_to_keep(settings: FinetuneSettings, loss: str) -> None:
    """Raise ``ValueError`` where answers are to be kept that ``loss`` does not go by, or that will be others."""
    if loss not in ("kl", "mse"):
        raise ValueError(f"only answers can be kept, and {loss} compares features; set answers to online")
    if settings.views is None:
        raise ValueError(
            "a teacher's answers can be kept only where images stay what they are, or are mirrored; set augment to "
            "none or flip, erase and randaugment to 0 and mix to none, or answers to online"
        )


class TaughtSettings(FinetuneSettings):
    """Fine-tuning, with or without a teacher."""

    when: ClassVar[Mapping[str, When]] = {
        **FinetuneSettings.when,
        "temperature": {"teacher": ("kl",)},
        "weight": {"teacher": LOSSES},
        "taught_by": {"teacher": LOSSES},
        "answers": {"teacher": ("kl", "mse")},
    }
    added: ClassVar[frozenset[str]] = FinetuneSettings.added | {"taught_by", "answers"}

    teacher: Literal["none", "kl", "mse", "hint", "attention", "relation", "similarity"] = Field(
        "none", description="Learn from a teacher too, by one of the losses of distill."
    )
    temperature: float = Field(4.0, gt=0, le=100, description="How much probabilities are softened.")
    weight: float = Field(0.9, ge=0, le=1, description="The teacher's share of the loss; the labels have the rest.")
    taught_by: str = Field(
        "uncompressed", min_length=1, examples=["uncompressed", "itself", *ARCHITECTURES],
        description="Who teaches: the uncompressed model, the student as it came, or a zoo model or model file.",
    )  # fmt: skip
    answers: Literal["online", "cached"] = Field(
        "online",
        description="Run the teacher in each step, or once over all images, which must not be augmented but by flip.",
    )

    @model_validator(mode="after")
    def _answers_can_be_kept(self) -> Self:
        if self.answers == "cached" and self.teacher != "none":
            require_answers_to_keep(self, self.teacher)
        return self

    @property
    def by(self) -> str:
        """Who teaches."""
        return super().by if self.teacher == "none" else self.taught_by


class BesideSettings(TaughtSettings):
    """Taught, with parameters that learn beside the weights: by AdamW, since their gradients are of another size."""

    optimizer: Literal["sgd", "adamw"] = Field("adamw", description="SGD with Nesterov momentum 0.9, or AdamW.")
    learning_rate: float = Field(0.002, gt=0, le=10, description="Step size at its highest.")
