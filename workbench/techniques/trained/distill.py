"""Distillation: train the compressed model to answer as its teacher, the uncompressed one.

The loss is the weighted sum of the labels' cross-entropy and of how far the student is from its teacher:

- ``kl``: the Kullback-Leibler divergence of answers softened by a temperature T, times T² (Hinton, Vinyals and
  Dean 2015).
- ``mse``: the squared error of the logits (Ba and Caruana 2014).
- ``hint``: the squared error of features, through a learned map where the student has fewer channels (Romero et
  al. 2015, "FitNets"); features are matched by their shape.
- ``attention``: where features are large, over channels (Zagoruyko and Komodakis 2017).
- ``relation``: distances and angles between the images of a batch (Park et al. 2019).
- ``similarity``: which images of a batch excite the same features (Tung and Mori 2019).

The teacher may be another model of the same classes (by its zoo name, ``timm:NAME`` or file), or the student as the
steps before left it: self-distillation (Furlanello et al. 2018, "Born-Again Neural Networks"). Between a teacher and
a far smaller student, assistants can stand (Mirzadeh et al. 2020): the same model, compressed less.

The last four say nothing of answers, so the labels keep their whole weight beside them.

Gradients are shortened to a norm of 5 unless said otherwise. Cross-entropy bounds the gradient at the logits; the
divergence at a temperature tends to the logits' squared difference as the temperature grows (Hinton et al. 2015,
section 2.1), which bounds nothing: a student whose logits overshoot is thrown back further than it came, and without
BatchNorm it is no number any more after some dozen steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from workbench.models.zoo import ARCHITECTURES

from ..base import When
from .base import clipped, trained_technique
from .finetune import FinetuneSettings
from .taught import Loss, require_answers_to_keep


class DistillSettings(FinetuneSettings):
    """Settings of ``distill``."""

    when: ClassVar[Mapping[str, When]] = {
        **FinetuneSettings.when,
        "temperature": {"loss": ("kl",)},
        "answers": {"loss": ("kl", "mse")},
    }
    again: ClassVar[tuple[str, ...]] = ("assistants",)
    added: ClassVar[frozenset[str]] = FinetuneSettings.added - {"gradient_clip"} | {"teacher", "answers", "assistants"}

    teacher: str = Field(
        "uncompressed", min_length=1, examples=["uncompressed", "itself", *ARCHITECTURES],
        description="Who teaches: the uncompressed model, the student as it came, or a zoo model or model file.",
    )  # fmt: skip

    loss: Loss = Field(
        "kl", description="How both are compared: softened probabilities, logits, features, attention, relations."
    )
    temperature: float = Field(4.0, gt=0, le=100, description="How much probabilities are softened.")
    weight: float = Field(0.9, ge=0, le=1, description="The teacher's share of the loss; the labels have the rest.")
    assistants: int = Field(
        0, ge=0, le=3, description="Models compressed less, each taught by the one before, the last one the teacher."
    )
    answers: Literal["online", "cached"] = Field(
        "online",
        description="Run the teacher in each step, or once over all images, which must not be augmented but by flip.",
    )
    gradient_clip: float | None = clipped(5.0)

    @model_validator(mode="after")
    def _answers_can_be_kept(self) -> Self:
        if self.answers == "cached":
            require_answers_to_keep(self, self.loss)
        return self

    @property
    def by(self) -> str:
        """Who teaches."""
        return self.teacher


DISTILL = trained_technique(
    name="distill",
    summary="Train the compressed model to answer as the uncompressed one, its teacher.",
    settings=DistillSettings,
    source="Hinton, Vinyals and Dean 2015; Ba and Caruana 2014",
    url="https://arxiv.org/abs/1503.02531",
)
