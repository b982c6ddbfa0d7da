"""The memory order of a module that eager PyTorch runs."""

from __future__ import annotations

import torch
from torch import nn


def channels_last(module: nn.Module) -> nn.Module:
    """Put the module's image weights in channels-last order, which eager CPU kernels prefer, in place.

    PyTorch refuses that order for the weights of 3-D convolutions; a module with such stays as it is.
    """
    if any(tensor.ndim == 5 for tensor in (*module.parameters(), *module.buffers())):
        return module
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
