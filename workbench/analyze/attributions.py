"""How much of the right class's logit each layer carries, by Captum's layer attributions."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from workbench.errors import WorkbenchError

from .finding import Floats

#: Steps of the path from a black image to the image, along which conductance is summed.
STEPS = 8


def attribute_layers(
    module: nn.Module, layers: tuple[str, ...], images: Tensor, labels: Tensor, method: str, check: Callable[[], None]
) -> Floats:
    """Return each layer's mean over ``images`` of the summed magnitudes of what is attributed to its outputs.

    ``method`` is ``conductance`` or ``grad_activation``. Layers that give no tensor are NaN. Raises ``WorkbenchError``
    where Captum is missing.
    """
    try:
        from captum.attr import LayerConductance, LayerGradientXActivation
    except ImportError as error:
        raise WorkbenchError("Attributions need Captum: pip install 'compression-workbench[analysis]'.") from error
    module.requires_grad_(True)  # so that what layers give has a gradient whatever the input
    found = []
    for name in layers:
        check()
        layer = module.get_submodule(name)
        attribution = (LayerConductance if method == "conductance" else LayerGradientXActivation)(module, layer)
        options = {"n_steps": STEPS, "internal_batch_size": 256} if method == "conductance" else {}
        try:
            with torch.inference_mode(False), torch.enable_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                given = attribution.attribute(images.clone(), target=labels, **options)
            while isinstance(given, tuple):
                given = given[0]
            found.append(float(given.detach().abs().flatten(1).sum(1).mean()))
        except (AssertionError, RuntimeError, IndexError, TypeError, AttributeError):  # an LSTM's or attention's pairs
            found.append(float("nan"))
    module.requires_grad_(False)
    return np.array(found)
