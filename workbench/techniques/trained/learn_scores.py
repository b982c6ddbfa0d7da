"""Learned masks by scores: each weight has a score, and the weights of the highest scores are used.

Which they are is decided anew in every step. The choice is passed straight through: a score learns by what the loss
would gain if the weight came in, the gradient of the used weight times the weight, whether it is used now or not
(Ramanujan et al. 2020, "What's Hidden in a Randomly Weighted Neural Network?"; Mallya, Davis and Lazebnik 2018,
"Piggyback"; Sanh, Wolf and Rush 2020). So weights that were left out come back where they are wanted. Weights learn
beside their scores, or stay what they are and only the mask is learned.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from .base import trained_technique
from .taught import BesideSettings


class LearnScoresSettings(BesideSettings):
    """Settings of ``learn_scores``."""

    own: ClassVar[frozenset[str]] = frozenset({"ratio"})

    ratio: float = Field(0.8, ge=0, lt=1, description="Share of the weights that is left out in the end.")
    scope: Literal["global", "layer"] = Field(
        "global", description="Rank all chosen layers of one ratio together, or leave its ratio out of each by itself."
    )
    weights: Literal["learned", "frozen"] = Field(
        "learned", description="Let the weights learn beside their scores, or learn the mask alone."
    )
    end: float = Field(0.4, gt=0, le=1, description="Share of the training after which the ratio is reached.")
    settle: float = Field(0.8, gt=0, le=1, description="Share of the training after which the choice stays what it is.")
    pace: float = Field(2.0, gt=0, le=1e4, description="Step size of the scores, as a multiple of the weights'.")
    epochs: int = Field(6, ge=1, le=1000, description="Passes over the training images.")


LEARN_SCORES = trained_technique(
    name="learn_scores",
    summary="Learn which weights to use by scores that learn beside them; what was left out can come back.",
    settings=LearnScoresSettings,
    source="Ramanujan et al. 2020; Mallya, Davis and Lazebnik 2018",
    url="https://arxiv.org/abs/1911.13299",
)
