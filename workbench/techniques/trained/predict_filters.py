"""Learned pruning: a small network looks at each filter and predicts what the loss would rise by without it.

What it sees of a filter: its size and BatchNorm's factor beside those of its layer, how near its nearest neighbour
is, how uneven its weights are, how deep its layer stands and how wide it is. One network of two small layers judges
all filters of the model. It learns from trials: before each step some filters of a layer, alike in a direction of
chance, are closed for a moment, and what the loss rises by is compared with what was predicted (as in datamodels,
Ilyas et al. 2022, of filters instead of images). So it needs far fewer trials than there are filters.

Meanwhile the model is trained, and the filters of the least predicted damage are left out, more and more until
``ratio`` of them are; the prediction is made anew in every step, so they may come back. After a share of the training
the choice is final, and the rest is trained on. After Huang et al. 2018, "Learning to Prune Filters in Convolutional
Neural Networks", whose agents decide from the weights too, and learn by reinforcement.

Dropped filters give exactly nothing, also behind a BatchNorm: ``prune: {granularity: filter}`` behind this step takes
them out of the structure. The last layer keeps its outputs.
"""

from __future__ import annotations

from pydantic import Field

from .base import trained_technique
from .taught import BesideSettings


class PredictFiltersSettings(BesideSettings):
    """Settings of ``predict_filters``."""

    ratio: float = Field(0.5, ge=0, lt=1, description="Share of the filters that is dropped.")
    search: float = Field(0.5, gt=0, lt=1, description="Share of the training in which the network still decides.")
    wait: float = Field(
        0.3, ge=0, lt=1, description="Share of the search in which the network learns before filters go."
    )
    floor: float = Field(0.1, ge=0, le=1, description="Share of each layer's filters that stays at least.")
    hidden: int = Field(16, ge=1, le=1024, description="Neurons of the network's hidden layer.")
    pace: float = Field(5.0, gt=0, le=1e4, description="Step size of the network, as a multiple of the weights'.")
    epochs: int = Field(6, ge=1, le=1000, description="Passes over the training images.")


PREDICT_FILTERS = trained_technique(
    name="predict_filters",
    summary="Train a small network beside the model that predicts which filters to drop.",
    settings=PredictFiltersSettings,
    source="Huang et al. 2018",
    url="https://arxiv.org/abs/1801.07365",
)
