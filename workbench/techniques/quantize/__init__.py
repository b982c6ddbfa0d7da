"""Quantization: weights, and what enters each layer, in fewer bits."""

from __future__ import annotations

from .grids import grid
from .settings import ActivationSettings, QuantizeSettings
from .technique import QUANTIZE

__all__ = ["QUANTIZE", "ActivationSettings", "QuantizeSettings", "grid"]
