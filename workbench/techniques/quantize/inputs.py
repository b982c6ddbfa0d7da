"""What enters a layer on a grid of its own, its range calibrated or taken from each batch."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from workbench.errors import WorkbenchError
from workbench.models.edits import QuantizeInput
from workbench.run.observe import observe_inputs
from workbench.techniques.draft import Context, Draft

from .grids import grid
from .settings import ActivationSettings


def quantize_inputs(draft: Draft, settings: Mapping[str, ActivationSettings], context: Context) -> None:
    """Calibrate and quantize the inputs of the layers in ``settings``; raises ``WorkbenchError`` without data."""
    if context.calibration is None or context.normalization is None:
        raise WorkbenchError("Quantizing activations needs calibration data: give the dataset as well as the model.")
    images, normalize = context.calibration.images, context.normalization
    percentiles = {
        name: chosen.percentile if chosen.observer == "percentile" else 100.0 for name, chosen in settings.items()
    }
    key = ("input ranges", draft.state, tuple(sorted(percentiles.items())), context.calibration.hash)
    ranges = context.cache.get(
        key, lambda: observe_inputs(draft.build(), images, normalize, percentiles, context.check)
    )
    for name, chosen in settings.items():
        if name not in ranges:
            continue
        low, high = (torch.tensor([bound]) for bound in ranges[name])
        scale, zero_point = grid(low, high, chosen.bits, "affine")
        draft.quantize_input(QuantizeInput(name, chosen.bits, float(scale), int(zero_point)))
