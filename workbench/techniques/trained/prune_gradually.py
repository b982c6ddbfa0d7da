"""Gradual pruning: train while the share of pruned weights rises to what was asked for.

At share t of the rise, ``ratio · (1 - (1 - t)³)`` of the weights are gone (Zhu and Gupta 2017, "To prune, or not
to prune"); in ``rounds``, it rises in as many equal steps of what is left, with training in between (Han et al.
2015). By magnitude the smallest go; by movement those that training moves towards zero: a weight's score is the
sum of -w · dL/dw (Sanh, Wolf and Rush 2020, "Movement Pruning").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from ..base import When
from .base import trained_technique
from .taught import TaughtSettings


class PruneGraduallySettings(TaughtSettings):
    """Settings of ``prune_gradually``."""

    own: ClassVar[frozenset[str]] = frozenset({"ratio"})
    when: ClassVar[Mapping[str, When]] = {
        **TaughtSettings.when, "rounds": {"rise": ("rounds",)},
    }  # fmt: skip

    ratio: float = Field(0.8, ge=0, lt=1, description="Share of the weights that is pruned in the end.")
    criterion: Literal["magnitude", "movement"] = Field(
        "magnitude", description="Prune the smallest weights, or those that training moves towards zero."
    )
    scope: Literal["global", "layer"] = Field(
        "global", description="Rank all chosen layers of one ratio together, or prune each to its ratio by itself."
    )
    rise: Literal["cubic", "rounds"] = Field(
        "cubic", description="Fast at first and slow in the end, or in rounds with training in between."
    )
    rounds: int = Field(4, ge=1, le=100, description="Rounds in which the share rises.")
    end: float = Field(0.6, gt=0, le=1, description="Share of the training after which the ratio is reached.")
    every: int = Field(32, ge=1, le=100_000, description="Steps between two prunings.")
    epochs: int = Field(6, ge=1, le=1000, description="Passes over the training images.")


PRUNE_GRADUALLY = trained_technique(
    name="prune_gradually",
    summary="Prune weights little by little while training, by magnitude or by movement.",
    settings=PruneGraduallySettings,
    source="Zhu and Gupta 2017; Han et al. 2015; Sanh, Wolf and Rush 2020",
    url="https://arxiv.org/abs/1710.01878",
)
