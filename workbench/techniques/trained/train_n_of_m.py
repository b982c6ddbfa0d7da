"""N:M sparsity, trained: of every M weights along the inputs the N largest are used, which they are may change.

All weights learn by the gradient of those used, passed straight through, and the unused ones are pulled towards
zero so that the choice settles (Zhou et al. 2021, "Learning N:M Fine-grained Structured Sparse Neural Networks
From Scratch", SR-STE).
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, model_validator

from .base import trained_technique
from .taught import TaughtSettings


class TrainNOfMSettings(TaughtSettings):
    """Settings of ``train_n_of_m``."""

    own: ClassVar[frozenset[str]] = frozenset({"n", "m"})

    n: int = Field(2, ge=1, le=63, description="Weights used of every m.")
    m: int = Field(4, ge=2, le=64, description="Weights along the inputs of which n are used.")
    pull: float = Field(2e-4, ge=0, le=1, description="Pull of unused weights towards zero.")
    epochs: int = Field(4, ge=1, le=1000, description="Passes over the training images.")

    @model_validator(mode="after")
    def _fewer(self) -> TrainNOfMSettings:
        if self.n >= self.m:
            raise ValueError(f"n:m uses n of every m weights, so n must be less than m, not {self.n}:{self.m}")
        return self


TRAIN_N_OF_M = trained_technique(
    name="train_n_of_m",
    summary="Train with the n largest of every m weights, while all of them learn (SR-STE).",
    settings=TrainNOfMSettings,
    source="Zhou et al. 2021",
    url="https://arxiv.org/abs/2102.04010",
)
