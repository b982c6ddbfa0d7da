"""Lottery tickets: find a sparse network that trains as well as the whole one from the same beginning.

Train, prune the smallest weights, set the others back to what they were early in the first training, and again,
until enough are gone; then train the ticket (Frankle and Carbin 2019, "The Lottery Ticket Hypothesis"; rewinding
to a later step than the first: Frankle et al. 2020). The control makes the claim testable: the same mask, trained
from other first weights.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from .base import trained_technique
from .taught import TaughtSettings


class FindTicketSettings(TaughtSettings):
    """Settings of ``find_ticket``."""

    again: ClassVar[tuple[str, ...]] = ("rounds",)

    ratio: float = Field(0.9, ge=0, lt=1, description="Share of the weights that the ticket lacks.")
    rounds: int = Field(5, ge=1, le=50, description="Trainings that are pruned after; one more trains the ticket.")
    epochs: int = Field(5, ge=1, le=1000, description="Passes over the training images in each round.")
    rewind: float = Field(
        0.0, ge=0, le=1, description="Share of the first training after which the weights are kept to go back to."
    )
    last: Literal["rewound", "random"] = Field(
        "rewound", description="Train the ticket from the weights it was found with, or from new ones: the control."
    )
    restart: bool = Field(True, description="Begin with new weights, not with those the model has.")
    learning_rate: float = Field(0.05, gt=0, le=10, description="Step size at its highest.")


FIND_TICKET = trained_technique(
    name="find_ticket",
    summary="Find a sparse network that trains as well from its first weights: a lottery ticket, or its control.",
    settings=FindTicketSettings,
    source="Frankle and Carbin 2019; Frankle et al. 2020",
    url="https://arxiv.org/abs/1803.03635",
)
