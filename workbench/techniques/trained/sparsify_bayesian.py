"""Sparse variational dropout: weights become distributions, and those that are mostly noise are dropped.

Each weight has a mean and a variance; training balances the loss against the divergence from a log-uniform prior
(Molchanov, Ashukha and Vetrov 2017, "Variational Dropout Sparsifies Deep Neural Networks", equation 14; additive
noise as in section 4.2). Where the noise-to-signal ratio, log α = log(σ² / θ²), exceeds ``noise``, the weight is
dropped. The divergence comes in over the first part of the training, so that the data are heard first. Noise is
drawn once a batch for each weight.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .base import trained_technique
from .taught import TaughtSettings


class SparsifyBayesianSettings(TaughtSettings):
    """Settings of ``sparsify_bayesian``."""

    strength: float = Field(
        1.0, ge=0, le=1e4, description="Weight of the divergence; 1 is the variational bound, larger drops more."
    )
    noise: float = Field(3.0, ge=-5, le=10, description="Drop weights whose log of variance over squared mean is more.")
    rise: float = Field(0.5, ge=0, le=1, description="Share of the training over which the divergence comes in.")
    pace: float = Field(10.0, gt=0, le=1e4, description="Step size of the variances, as a multiple of the weights'.")
    optimizer: Literal["sgd", "adamw"] = Field("adamw", description="SGD with Nesterov momentum 0.9, or AdamW.")
    learning_rate: float = Field(0.002, gt=0, le=10, description="Step size at its highest.")
    epochs: int = Field(10, ge=1, le=1000, description="Passes over the training images.")


SPARSIFY_BAYESIAN = trained_technique(
    name="sparsify_bayesian",
    summary="Learn a distribution for each weight, and drop those that are mostly noise (variational dropout).",
    settings=SparsifyBayesianSettings,
    source="Molchanov, Ashukha and Vetrov 2017",
    url="https://arxiv.org/abs/1701.05369",
)
