"""What no technique can rank, round or factorize: weights that are not all finite numbers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from workbench.errors import WorkbenchError

from .base import Settings, Technique
from .context import Cache
from .draft import Draft


def require_finite(draft: Draft, technique: Technique[Any], settings: Mapping[str, Settings], cache: Cache) -> None:
    """Raise ``WorkbenchError`` where a layer that a step changes has NaN or infinite weights.

    Layers whose settings leave them as they are may have any. Each version of a tensor is looked at once.
    """
    for layer, chosen in settings.items():
        if technique.leaves(chosen):
            continue
        for name in draft.layers[layer].weights:
            before, version, _ = draft.uncut(name)
            if not cache.get(("finite", version), partial(_is_finite, before)):
                raise WorkbenchError(
                    f"The weights '{name}' hold NaN or infinite values, which {technique.name} can make nothing of: "
                    "mend the model, or leave the layer out with layers."
                )


def _is_finite(weight: Tensor) -> bool:
    return bool(np.isfinite(weight.numpy()).all())
