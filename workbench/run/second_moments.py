"""The second moment of what the weights of many layers are multiplied by, in one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from workbench.calls import entering

from .moments import BATCH, Normalize, columns


def second_moments(
    module: nn.Module, images: Tensor, normalize: Normalize, layers: Sequence[str], check: Callable[[], None]
) -> dict[str, Tensor]:
    """Return layer → the mean of ``x xᵀ`` (inputs, inputs) over all that its weights multiply.

    ``x`` is what one output is computed from: a vector for a Linear, a patch for a convolution without
    groups, in the order of the flattened weight. ``check`` is called between batches and may raise. Layers
    that never run are left out.
    """
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}

    def watch(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            check()
            seen = columns(layer, entering(layer, args, kwargs)[0])[0]
            sums[name] = sums.get(name, 0) + seen @ seen.T
            counts[name] = counts.get(name, 0) + seen.shape[1]

        return hook

    handles = [module.get_submodule(name).register_forward_pre_hook(watch(name), with_kwargs=True) for name in layers]
    with torch.inference_mode():
        for batch in images.split(BATCH):
            module(normalize(batch))
    for handle in handles:
        handle.remove()
    return {name: total.clone() / counts[name] for name, total in sums.items()}
