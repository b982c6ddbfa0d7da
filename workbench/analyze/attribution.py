"""Which pixels an answer stands on, before and after: attributions by Captum, on one scale.

Three methods, all asked about the same class for both models, so that the maps can be compared:

- ``integrated_gradients`` (Sundararajan et al. 2017), from a black image, 32 steps; summed over channels.
- ``occlusion`` (Zeiler and Fergus 2014): a patch of about a seventh of the side is blackened, step by step.
- ``gradcam`` (Selvaraju et al. 2017): the last convolution with a map, enlarged to the image.

The similarity is Spearman's rank correlation of both maps, as in Adebayo et al. 2018, "Sanity Checks for Saliency
Maps". Captum comes with the ``analysis`` extra and is imported when the first attribution is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from workbench.errors import WorkbenchError

Map = NDArray[np.float32]

METHODS = {
    "integrated_gradients": "Integrated Gradients",
    "occlusion": "Occlusion",
    "gradcam": "Grad-CAM",
}
STEPS = 32
INSTALL = 'pip install "compression-workbench[analysis]"'


@dataclass(frozen=True, eq=False)
class Attribution:
    """Two maps ``(H, W)`` about class ``target``; ``scale`` is the largest magnitude in both.

    ``similarity`` is Spearman's rank correlation, NaN where a map is constant.
    """

    method: str
    target: int
    before: Map
    after: Map
    scale: float
    similarity: float


def attribute(
    before: nn.Module, after: nn.Module, image: Tensor, target: int, method: str, black: Tensor
) -> Attribution:
    """Return both models' maps for one normalised ``image`` ``(C, H, W)`` and class ``target``.

    ``black`` ``(C, H, W)`` is the image that shows nothing, normalised alike. Raises ``WorkbenchError`` for an
    unknown method, one that does not suit the model, and where Captum is missing.
    """
    if method not in METHODS:
        raise WorkbenchError(f"There is no attribution method '{method}'; there are {', '.join(METHODS)}.")
    if find_spec("captum") is None:
        raise WorkbenchError(f"Attributions are computed by Captum, which is not installed: {INSTALL}")
    maps = [_map(module, image[None], target, method, black[None]) for module in (before, after)]
    if not maps[1].any() and maps[0].any() and method != "occlusion":
        raise WorkbenchError(
            "The compressed model has no gradient to follow (rounded activations are flat); choose Occlusion, which "
            "needs none."
        )
    scale = float(max(np.abs(found).max() for found in maps))
    return Attribution(method, target, maps[0], maps[1], scale, similarity(*maps))


def similarity(one: Map, other: Map) -> float:
    """Return Spearman's rank correlation of two maps, NaN where one is constant."""
    from scipy.stats import rankdata

    ranks = [rankdata(found.ravel()) for found in (one, other)]
    if any(np.ptp(rank) == 0 for rank in ranks):
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])


def _map(module: nn.Module, image: Tensor, target: int, method: str, black: Tensor) -> Map:
    from captum.attr import IntegratedGradients, LayerAttribution, LayerGradCam, Occlusion

    _, channels, height, width = image.shape
    if method == "integrated_gradients":
        explained = IntegratedGradients(module).attribute(
            image.clone().requires_grad_(), black, target=target, n_steps=STEPS, internal_batch_size=STEPS
        )
        found = explained.sum(1)
    elif method == "occlusion":
        side = max(2, round(min(height, width) / 7))
        stride = max(1, side // 2)
        explained = Occlusion(module).attribute(
            image, (channels, side, side), (channels, stride, stride), black, target=target, perturbations_per_eval=32
        )
        found = explained.mean(1)
    else:
        layer = _last_map(module, image)
        explained = LayerGradCam(module, layer).attribute(image.clone().requires_grad_(), target)
        found = LayerAttribution.interpolate(explained, (height, width), "bilinear")[:, 0]
    return np.ascontiguousarray(np.nan_to_num(found.detach()[0].float().numpy()))


def _last_map(module: nn.Module, image: Tensor) -> nn.Module:
    """Return the convolution called last whose output is larger than one place."""
    seen: list[nn.Module] = []

    def hook(layer: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[-1] * output.shape[-2] > 1:
            seen.append(layer)

    handles = [part.register_forward_hook(hook) for part in module.modules() if isinstance(part, nn.Conv2d)]
    with torch.no_grad():
        module(image)
    for handle in handles:
        handle.remove()
    if not seen:
        raise WorkbenchError(
            "Grad-CAM needs a convolution whose output is a map, and this model has none; choose Integrated Gradients "
            "or Occlusion."
        )
    return seen[-1]
