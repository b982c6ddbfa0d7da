"""Regularizers that lead to small models: what they make small can then be removed at little loss.

- ``l1``: the sum of magnitudes, which makes single weights small.
- ``group``: the sum of the norms of each output's weights, times the root of their number, which makes whole
  filters small (Yuan and Lin 2006; Wen et al. 2016, "Learning Structured Sparsity in Deep Neural Networks").
- ``nuclear``: the sum of the singular values of each weight as a matrix, which makes its rank small.

Each is divided by its value before training, so that ``strength`` means the same for all models.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .base import trained_technique
from .taught import TaughtSettings


class RegularizeSettings(TaughtSettings):
    """Settings of ``regularize``."""

    kind: Literal["l1", "group", "nuclear"] = Field(
        "group", description="What becomes small: single weights, each output's weights, or singular values."
    )
    strength: float = Field(0.3, ge=0, le=1e6, description="Share of the loss that the regularizer begins with.")


REGULARIZE = trained_technique(
    name="regularize",
    summary="Train on so that weights, filters or ranks become small and can be removed afterwards.",
    settings=RegularizeSettings,
    source="Wen et al. 2016",
    url="https://arxiv.org/abs/1608.03665",
)
