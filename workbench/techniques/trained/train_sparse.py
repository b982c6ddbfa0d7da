"""Sparse training: a network that is sparse from the start, whose mask moves while it learns.

Every so many steps each layer loses a share of its smallest weights and gets as many others, at zero: by chance
(Mocanu et al. 2018, "SET"), or where the gradient is largest (Evci et al. 2020, "RigL"). The share falls by half
a cosine. Layers are as sparse as Erdős-Rényi graphs of their sizes would be, with kernel sizes for convolutions,
or all alike. With ``restart`` the weights begin anew; otherwise with those the model has.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .base import trained_technique
from .taught import TaughtSettings


class TrainSparseSettings(TaughtSettings):
    """Settings of ``train_sparse``."""

    ratio: float = Field(0.8, ge=0, lt=1, description="Share of all weights that is missing, at every moment.")
    grow: Literal["gradient", "random"] = Field(
        "gradient", description="Where weights come back: where the gradient is largest (RigL), or by chance (SET)."
    )
    swap: float = Field(0.3, ge=0, le=1, description="Share of the kept weights that is exchanged at first.")
    end: float = Field(0.75, gt=0, le=1, description="Share of the training after which the mask stays.")
    every: int = Field(100, ge=1, le=100_000, description="Steps between two exchanges.")
    density: Literal["erdos_renyi", "uniform"] = Field(
        "erdos_renyi", description="Smaller layers keep a larger share, or all layers the same."
    )
    restart: bool = Field(True, description="Begin with new weights, not with those the model has.")
    epochs: int = Field(10, ge=1, le=1000, description="Passes over the training images.")
    learning_rate: float = Field(0.05, gt=0, le=10, description="Step size at its highest.")


TRAIN_SPARSE = trained_technique(
    name="train_sparse",
    summary="Train with most weights missing from the start, exchanging small ones for others (SET, RigL).",
    settings=TrainSparseSettings,
    source="Mocanu et al. 2018; Evci et al. 2020",
    url="https://arxiv.org/abs/1911.11134",
)
