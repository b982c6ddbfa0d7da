"""Fine-tuning: train the compressed model on, with what was compressed staying so.

Pruned weights stay zero. Weights on a grid or in a table are rounded in every forward pass while their
unrounded selves learn, by the straight-through estimator (Bengio et al. 2013): quantization-aware training
(Jacob et al. 2018). With ``learn_steps`` the grids' steps learn too (Esser et al. 2020, "Learned Step Size
Quantization"). Codebooks learn their entries, each by the sum of its weights' gradients (Han et al. 2016).
"""

from __future__ import annotations

from pydantic import Field

from .base import TrainingSettings, trained_technique


class FinetuneSettings(TrainingSettings):
    """Settings of ``finetune``."""

    learn_steps: bool = Field(True, description="Let the steps of quantization grids learn too (LSQ).")


FINETUNE = trained_technique(
    name="finetune",
    summary="Train on with masks held, grids rounded in every pass and codebooks learning their entries.",
    settings=FinetuneSettings,
    source="Han et al. 2015 and 2016; Jacob et al. 2018; Esser et al. 2020",
    url="https://arxiv.org/abs/1902.08153",
)
