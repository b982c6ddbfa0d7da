"""The memory order of a module that eager PyTorch runs."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def channels_last(module: nn.Module) -> nn.Module:
    """Put the module's image weights in channels-last order, which eager CPU kernels prefer, in place.

    PyTorch refuses that order for the weights of 3-D convolutions; a module with such stays as it is.
    """
    if any(tensor.ndim == 5 for tensor in (*module.parameters(), *module.buffers())):
        return module
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def channels_first(module: nn.Module) -> nn.Module:
    """Put the module's image weights back in PyTorch's own order, in place."""
    return module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload, no-any-return]


def quick_order(module: nn.Module, images: Tensor) -> nn.Module:
    """Put the module in the order in which it runs fastest and takes ``images``, in place.

    Code such as ``x.view(len(x), -1)`` refuses what convolutions give in channels-last order.
    """
    module = channels_last(module)
    if any(weight.ndim == 4 for weight in module.parameters()):
        try:
            with torch.no_grad():
                module(images[:2])
        except RuntimeError:
            return channels_first(module)
    return module
