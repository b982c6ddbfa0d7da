"""Learned pruning: a small network looks at each filter and predicts whether it can go.

What it sees of a filter: its size and BatchNorm's factor beside those of its layer, how near its nearest neighbour
is, how much its weights and itself are spread, how deep its layer stands and how wide it is. One network of two small
layers judges all filters of the model. It is trained together with the model, by the loss that its decisions lead to
and by how far the share of dropped filters is from ``ratio``; each step draws decisions from its predictions, passed
straight through. After Huang et al. 2018, "Learning to Prune Filters in Convolutional Neural Networks", whose agents
also decide from the weights and learn by reinforcement; the relaxation is that of Maddison, Mnih and Teh 2017 and
Jang, Gu and Poole 2017.

After a share of the training the filters that it finds least worth keeping are dropped for good, ``ratio`` of all, and
the rest is trained on. Dropped filters give exactly nothing, also behind a BatchNorm: ``prune: {granularity: filter}``
behind this step takes them out of the structure. The last layer keeps its outputs.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .base import trained_technique
from .taught import TaughtSettings


class PredictFiltersSettings(TaughtSettings):
    """Settings of ``predict_filters``."""

    ratio: float = Field(0.5, ge=0, lt=1, description="Share of the filters that is dropped.")
    search: float = Field(0.5, gt=0, lt=1, description="Share of the training in which the network still decides.")
    strength: float = Field(
        10.0, ge=0, le=1e4, description="Weight of the squared difference between the dropped share and the ratio."
    )
    hidden: int = Field(16, ge=1, le=1024, description="Neurons of the network's hidden layer.")
    pace: float = Field(5.0, gt=0, le=1e4, description="Step size of the network, as a multiple of the weights'.")
    optimizer: Literal["sgd", "adamw"] = Field("adamw", description="SGD with Nesterov momentum 0.9, or AdamW.")
    learning_rate: float = Field(0.002, gt=0, le=10, description="Step size at its highest.")
    epochs: int = Field(6, ge=1, le=1000, description="Passes over the training images.")


PREDICT_FILTERS = trained_technique(
    name="predict_filters",
    summary="Train a small network beside the model that predicts which filters to drop.",
    settings=PredictFiltersSettings,
    source="Huang et al. 2018",
    url="https://arxiv.org/abs/1801.07365",
)
