"""Mixed bits, learned: how many bits each layer's weights take is trained with the weights, within a budget.

Every weight is rounded to grids of several widths at once, and the layer runs with their mean, weighed by the
softmax of preferences that learn with the weights (Cai and Vasconcelos 2020, "Rethinking Differentiable Search
for Mixed-Precision Neural Networks", EdMIPS: a convolution is linear in its weights, so one is enough). The cost is
that of Uhlich et al. 2020, "Mixed Precision DNNs": bytes beyond the budget. Each grid's steps learn (Esser et al.
2020).

After a share of the training one width is taken of each layer: of all choices that fit, the one that most probably
is enough, with the preferences for fewer bits as the chance that a width is. It is an exact knapsack over the
bytes that each layer really takes when it is packed. The rest of the training is quantization-aware training with
these widths, and only a state that fits the budget is kept.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, model_validator

from .base import trained_technique
from .taught import BesideSettings


class LearnBitsSettings(BesideSettings):
    """Settings of ``learn_bits``."""

    own: ClassVar[frozenset[str]] = frozenset({"fewest", "most"})

    size: float = Field(
        0.125, gt=0, lt=1, description="Share of the dense model's bytes that the packed file may take."
    )
    max_bytes: int | None = Field(None, ge=1, description="Bytes that the packed file may take, instead of a share.")
    fewest: int = Field(2, ge=2, le=8, description="Fewest bits of a layer's weights.")
    most: int = Field(8, ge=2, le=8, description="Most bits of a layer's weights.")
    search: float = Field(0.5, gt=0, lt=1, description="Share of the training in which the bits are still open.")
    strength: float = Field(3.0, ge=0, le=1e4, description="Loss of a model that is twice as large as it may be.")
    pace: float = Field(10.0, gt=0, le=1e4, description="Step size of the preferences, as a multiple of the weights'.")
    epochs: int = Field(6, ge=1, le=1000, description="Passes over the training images.")

    @model_validator(mode="after")
    def _several(self) -> LearnBitsSettings:
        if self.fewest >= self.most:
            raise ValueError(f"there is nothing to choose between {self.fewest} and {self.most} bits: raise most")
        return self


LEARN_BITS = trained_technique(
    name="learn_bits",
    summary="Learn how many bits each layer needs while training, so that the packed file fits a budget.",
    settings=LearnBitsSettings,
    source="Cai and Vasconcelos 2020; Uhlich et al. 2020",
    url="https://arxiv.org/abs/2004.05795",
)
