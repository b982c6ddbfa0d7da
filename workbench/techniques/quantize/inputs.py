"""What enters a layer on a grid of its own, its range calibrated or taken from each batch, or of two values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from workbench.data.dataset import Split
from workbench.errors import WorkbenchError
from workbench.models.edits import BinarizeInput, QuantizeInput, QuantizeInputByBatch
from workbench.run.observe import HISTOGRAM_BINS, OBSERVED_IMAGES, Normalize, observe_histograms, observe_inputs
from workbench.techniques.context import Context
from workbench.techniques.draft import Draft

from .grids import grid, on_grid_values
from .ranges import best_shares, entropy_thresholds
from .rows import Floats
from .settings import ActivationSettings

Range = tuple[float, float]


def quantize_inputs(draft: Draft, settings: Mapping[str, ActivationSettings], context: Context) -> None:
    """Quantize the inputs of the layers in ``settings``, calibrating those whose ranges are static.

    Raises ``WorkbenchError`` where that needs data and there is none.
    """
    static = {name: chosen for name, chosen in settings.items() if chosen.mode == "static"}
    ranges = _calibrated(draft, static, context) if static else {}
    binary = [name for name, chosen in settings.items() if chosen.mode == "binary"]
    middles = _middles(draft, binary, context) if binary else {}
    for name, chosen in settings.items():
        if chosen.mode == "dynamic" and not isinstance(draft.original.get_submodule(name), nn.Embedding):
            draft.quantize_input(QuantizeInputByBatch(name, chosen.bits))
        elif name in middles:
            centre, distance = middles[name]
            draft.quantize_input(BinarizeInput(name, scale=distance, centre=centre))
        elif name in ranges:
            low, high = (torch.tensor([bound]) for bound in ranges[name])
            scale, zero_point = grid(low, high, chosen.bits, "affine")
            draft.quantize_input(QuantizeInput(name, chosen.bits, float(scale), int(zero_point)))


def _calibrated(draft: Draft, settings: Mapping[str, ActivationSettings], context: Context) -> dict[str, Range]:
    percentiles = {
        name: chosen.percentile if chosen.observer == "percentile" else 100.0
        for name, chosen in settings.items()
        if chosen.observer in ("minmax", "percentile")
    }
    clipped = {name: chosen for name, chosen in settings.items() if name not in percentiles}
    ranges = _ranges(draft, percentiles, context) if percentiles else {}
    if not clipped:
        return ranges
    full, counts = _histograms(draft, clipped, context)
    return ranges | {name: clip(bounds, counts[name], clipped[name]) for name, bounds in full.items()}


def _middles(draft: Draft, layers: Iterable[str], context: Context) -> dict[str, tuple[float, float]]:
    """Return the mean of what enters each layer, and its mean distance from it: the nearest two values about it.

    The scale is the mean magnitude, as Rastegari et al. 2016 ("XNOR-Net") have it for weights and inputs; but one for
    all images, where they compute one for each place of each image and say that it adds little.
    """
    full, counts = _histograms(draft, layers, context)
    return {name: middle(bounds, counts[name]) for name, bounds in full.items()}


def middle(bounds: Range, counts: NDArray[np.int64]) -> tuple[float, float]:
    """Return the mean of a histogram over the range ``bounds``, and the mean distance from it."""
    if not counts.any():
        return bounds[0], float(np.finfo(np.float32).eps)
    centres = _centres(bounds)
    mean = float(np.average(centres, weights=counts))
    return mean, float(np.average(np.abs(centres - mean), weights=counts))


def _histograms(
    draft: Draft, layers: Iterable[str], context: Context
) -> tuple[dict[str, Range], dict[str, NDArray[np.int64]]]:
    """Return the range of what enters each of ``layers`` and how often it falls into each bin of that range."""
    full = _ranges(draft, dict.fromkeys(layers, 100.0), context)
    images, normalize, calibration = _seen(context)
    counts = context.cache.get(
        ("input histograms", draft.state, tuple(full), calibration.hash),
        lambda: observe_histograms(draft.build(), images, normalize, full, context.check),
    )
    return full, counts


def _ranges(draft: Draft, percentiles: Mapping[str, float], context: Context) -> dict[str, Range]:
    images, normalize, calibration = _seen(context)
    key = ("input ranges", draft.state, tuple(sorted(percentiles.items())), calibration.hash)
    return context.cache.get(key, lambda: observe_inputs(draft.build(), images, normalize, percentiles, context.check))


def _seen(context: Context) -> tuple[Tensor, Normalize, Split]:
    if context.calibration is None or context.normalization is None:
        raise WorkbenchError("Quantizing activations needs calibration data: give the dataset as well as the model.")
    return context.mixed_images(OBSERVED_IMAGES), context.normalization, context.calibration


def _centres(bounds: Range) -> NDArray[np.float32]:
    """Return the middle of each bin of a histogram of ``bounds``."""
    edges = np.linspace(*bounds, HISTOGRAM_BINS + 1)
    return ((edges[1:] + edges[:-1]) / 2).astype(np.float32)


def clip(bounds: Range, counts: NDArray[np.int64], settings: ActivationSettings) -> Range:
    """Return the part of the range ``bounds`` that the observer chooses, from the histogram over all of it."""
    low, high = min(bounds[0], 0.0), max(bounds[1], 0.0)
    centres = _centres(bounds)
    if not counts.any():
        return low, high
    if settings.observer == "mse":

        def errors(shares: Floats) -> NDArray[np.float64]:
            lowest, highest = (torch.from_numpy(np.float32(bound) * shares) for bound in (low, high))
            scale, zero_point = grid(lowest, highest, settings.bits, "affine")
            rounded = on_grid_values(centres, scale.numpy(), zero_point.numpy(), settings.bits)
            return np.asarray((counts * np.square(rounded - centres, dtype=np.float64)).sum(axis=1, keepdims=True))

        (share,) = best_shares(errors, 1)
        return low * float(share), high * float(share)
    reach = max(-low, high)
    folded, _ = np.histogram(np.abs(centres), HISTOGRAM_BINS // 2, (0, reach), weights=counts)
    signed = low < 0 < high
    (kept,) = entropy_thresholds(folded[None], 2 ** (settings.bits - 1 if signed else settings.bits))
    reach *= float(kept) / len(folded)
    return max(low, -reach), min(high, reach)
