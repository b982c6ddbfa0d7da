"""Models: where they come from, whether they can be used, and the table of their layers."""

from __future__ import annotations

from .check import check_model, require_model
from .layers import LAYER_TYPES, Layer, layers_of
from .load import available_models, load_model, load_zoo
from .model import Model, ModelError, prepare

__all__ = [
    "LAYER_TYPES",
    "Layer",
    "Model",
    "ModelError",
    "available_models",
    "check_model",
    "layers_of",
    "load_model",
    "load_zoo",
    "prepare",
    "require_model",
]
