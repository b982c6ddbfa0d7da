"""Layer-wise reconstruction: each layer learns to give the outputs it gave before it was compressed.

The labels are not needed, and a few hundred images are enough, since every layer has as many targets as
outputs: He, Zhang and Sun 2017, "Channel Pruning for Accelerating Very Deep Neural Networks", and Hubara et al.
2021, "Accurate Post Training Quantization With Small Calibration Sets". Masks, grids and codebooks are held as
in fine-tuning. A layer whose outputs became fewer is left alone.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .base import trained_technique
from .finetune import FinetuneSettings


class ReconstructSettings(FinetuneSettings):
    """Settings of ``reconstruct``."""

    epochs: int = Field(20, ge=1, le=1000, description="Passes over the images.")
    images: int | None = Field(512, ge=1, description="Training images to use, at most; their labels are not.")
    learning_rate: float = Field(0.002, gt=0, le=10, description="Step size at its highest.")
    batch: int = Field(32, ge=1, le=4096, description="Images a step.")
    optimizer: Literal["sgd", "adamw"] = Field("adamw", description="SGD with Nesterov momentum 0.9, or AdamW.")
    weight_decay: float = Field(0.0, ge=0, le=1, description="Pull of the weights towards zero.")
    augment: Literal["none", "flip", "crop", "crop_flip"] = Field(
        "none", description="Training images mirrored at random, cut out of a padded self, or both."
    )


RECONSTRUCT = trained_technique(
    name="reconstruct",
    summary="Train each layer alone to give the outputs it gave before, on a few hundred images without labels.",
    settings=ReconstructSettings,
    source="He, Zhang and Sun 2017; Hubara et al. 2021",
    url="https://arxiv.org/abs/1707.06168",
)
