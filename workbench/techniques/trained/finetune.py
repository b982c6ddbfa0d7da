"""Fine-tuning: train the compressed model on, with what was compressed staying so.

Pruned weights stay zero. Weights on a grid or in a table are rounded in every forward pass while their
unrounded selves learn, by the straight-through estimator (Bengio et al. 2013): quantization-aware training
(Jacob et al. 2018). With ``learn_steps`` the grids' steps learn too (Esser et al. 2020, "Learned Step Size
Quantization"), and so may those of the layers' inputs, or where these are cut (Choi et al. 2018, "PACT"); with
``learn_offsets`` the grids move as well (Bhalgat et al. 2020, "LSQ+"). Binary and ternary weights keep their
whole selves beside and take signs and scales anew in every pass (Rastegari et al. 2016, "XNOR-Net"; Li et al.
2016), also beside binary inputs, or learn a scale for each sign with ``two_scales`` (Zhu et al. 2017, "Trained
Ternary Quantization").

BatchNorm can keep the statistics it has, from the beginning or late in quantization-aware training, and its
factors can be folded into the weights before they are rounded, as a runtime folds them (Jacob et al. 2018;
Krishnamoorthi 2018). Codebooks learn their entries, each by the sum of its weights' gradients (Han et al. 2016);
with ``reassign`` a weight's unrounded self learns as well, and takes the entry nearest to it (Polino, Pascanu and
Alistarh 2018, "Model compression via distillation and quantization").
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from .base import TrainingSettings, trained_technique


class FinetuneSettings(TrainingSettings):
    """Settings of ``finetune``."""

    added: ClassVar[frozenset[str]] = TrainingSettings.added | {
        "learn_inputs", "batchnorm", "batchnorm_until", "learn_offsets", "two_scales", "reassign",
    }  # fmt: skip

    learn_steps: bool = Field(True, description="Let the steps of quantization grids learn too (LSQ).")
    learn_inputs: Literal["no", "step", "cut"] = Field(
        "no",
        description="What learns of quantized inputs' grids: nothing, their step (LSQ), or where they are cut (PACT).",
    )
    learn_offsets: bool = Field(
        False,
        description="Let the grids' offsets learn too (LSQ+), in whole steps: of weights, and of inputs whose step "
        "does.",
    )
    two_scales: bool = Field(False, description="Give ternary weights a scale for each sign, and let both learn (TTQ).")
    reassign: bool = Field(
        False,
        description="Let weights that share the values of a codebook take another of its entries as they learn.",
    )
    batchnorm: Literal["train", "freeze", "fold"] = Field(
        "train",
        description="Let BatchNorm follow the training images' statistics, keep those it has, or follow them while "
        "its factors are folded into the weights that are rounded (after fold_batchnorm).",
    )
    batchnorm_until: float = Field(
        1.0, ge=0, le=1, description="Share of the training after which BatchNorm keeps the statistics it has."
    )


FINETUNE = trained_technique(
    name="finetune",
    summary="Train on with masks held, grids rounded in every pass and codebooks learning their entries.",
    settings=FinetuneSettings,
    source="Han et al. 2015 and 2016; Jacob et al. 2018; Esser et al. 2020",
    url="https://arxiv.org/abs/1902.08153",
)
