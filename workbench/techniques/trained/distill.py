"""Distillation: train the compressed model to answer as its teacher, the uncompressed one.

The loss is the mean of the labels' cross-entropy and of how far the student's answers are from the
teacher's: the Kullback-Leibler divergence of probabilities softened by a temperature T, times T² (Hinton,
Vinyals and Dean 2015), or the mean squared error of the logits (Ba and Caruana 2014).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .base import trained_technique
from .finetune import FinetuneSettings


class DistillSettings(FinetuneSettings):
    """Settings of ``distill``."""

    loss: Literal["kl", "mse"] = Field("kl", description="How answers are compared: softened probabilities, or logits.")
    temperature: float = Field(4.0, gt=0, le=100, description="How much probabilities are softened.")
    weight: float = Field(0.9, ge=0, le=1, description="The teacher's share of the loss; the labels have the rest.")


DISTILL = trained_technique(
    name="distill",
    summary="Train the compressed model to answer as the uncompressed one, its teacher.",
    settings=DistillSettings,
    source="Hinton, Vinyals and Dean 2015; Ba and Caruana 2014",
    url="https://arxiv.org/abs/1503.02531",
)
