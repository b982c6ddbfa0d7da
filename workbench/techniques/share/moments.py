"""What the weights of a layer are multiplied by, for sharing that errs least in what the layer gives."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.run.moments import has_columns
from workbench.run.second_moments import second_moments

from ..context import Context
from ..draft import Draft
from .settings import ShareSettings

#: Added to moments, as a share of their mean: weights of inputs that are always zero don't run away.
RIDGE = 1e-3

Moment = tuple[str, Tensor]
"""What it is of, for caches, and the mean of x xᵀ (inputs, inputs) over all that a row of the weight multiplies."""


def weight_moments(draft: Draft, settings: Mapping[str, ShareSettings], context: Context) -> Mapping[str, Moment]:
    """Return the moment for each weight whose layer asks to be ``weighted``.

    Layers that are not one matrix product are left out, with a note. Raises ``WorkbenchError`` without data.
    """
    asking = [name for name, item in settings.items() if item.weighted]
    if not asking:
        return {}
    if context.calibration is None or context.normalization is None:
        raise WorkbenchError(
            "Weighing shared values by data needs calibration data: give the dataset as well as the model."
        )
    layers = tuple(name for name in asking if _is_one_product(draft.module(name)))
    left = [name for name in asking if name not in layers]
    if left:
        draft.notes.append(f"Weights counted all alike, since the layer is not one matrix product: {', '.join(left)}.")
    images, normalize = context.mixed_images(max(settings[name].images for name in asking)), context.normalization
    key = ("input moments", draft.state, layers, len(images), context.calibration.hash)
    found = context.cache.get(key, lambda: second_moments(draft.build(), images, normalize, layers, context.check))
    return {draft.layers[name].weight: (f"weighted {key}", moment) for name, moment in found.items()}


def _is_one_product(layer: nn.Module) -> bool:
    return has_columns(layer) and getattr(layer, "groups", 1) == 1
