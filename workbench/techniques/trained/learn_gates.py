"""Learned masks: each weight, or each output, has a gate whose chance to be open is learned with the weights.

Hard-concrete gates (Louizos, Welling and Kingma 2018, "Learning Sparse Neural Networks through L0
Regularization", equations 10 to 12): stretched between ``-0.1`` and ``1.1`` and cut to 0 … 1, a gate is exactly
zero with a chance that has a gradient, so that the expected number of weights can be a part of the loss.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from .base import trained_technique
from .taught import BesideSettings


class LearnGatesSettings(BesideSettings):
    """Settings of ``learn_gates``."""

    own: ClassVar[frozenset[str]] = frozenset({"unit", "open"})

    strength: float = Field(
        1.0, ge=0, le=1e6, description="Loss of a model all of whose gates are open; larger prunes more."
    )
    unit: Literal["weight", "output"] = Field(
        "weight", description="What a gate is for: one weight, or all of an output."
    )
    open: float = Field(0.9, gt=0, lt=1, description="Chance of a gate to be open at first.")
    pace: float = Field(10.0, gt=0, le=1e4, description="Step size of the gates, as a multiple of the weights'.")
    epochs: int = Field(8, ge=1, le=1000, description="Passes over the training images.")


LEARN_GATES = trained_technique(
    name="learn_gates",
    summary="Learn which weights or outputs to drop, by gates whose expected number is a part of the loss (L0).",
    settings=LearnGatesSettings,
    source="Louizos, Welling and Kingma 2018",
    url="https://arxiv.org/abs/1712.01312",
)
