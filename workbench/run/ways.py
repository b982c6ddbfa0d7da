"""Whether the code of a module takes another way for other values, which a traced graph does not follow."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

#: Images like those that models are given, small ones and large ones: standard deviations.
_SPREADS = (0.1, 1.0, 10.0)


def takes_other_ways(traced: nn.Module, example: Tensor, module: nn.Module) -> bool:
    """Whether ``module`` answers yes or no, or counts, otherwise than ``traced`` did on ``example``.

    They have the same code. What it reads as a fraction is left to the comparison of answers, since it can't but
    change them.
    """
    expected = _read(traced, example)
    probed = copy.deepcopy(module)  # whose code may keep something of what it saw
    return any(_read(probed, images) not in (expected, None) for images in _like(example))


def _like(example: Tensor) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(0)
    yield example
    for spread in _SPREADS:
        yield spread * torch.randn(example.shape, generator=generator)


def _read(module: nn.Module, images: Tensor) -> list[int] | None:
    """Return what the code of ``module`` reads from tensors on ``images``; None where it refuses them."""
    reads = _Reads()
    with torch.no_grad(), reads:
        try:
            module(images)
        except Exception:  # whatever it demands of its images
            return None
    return reads.found


class _Reads(TorchDispatchMode):
    """Notes the booleans and integers that code takes out of tensors; sizes are none."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[int] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if function is torch.ops.aten._local_scalar_dense.default and isinstance(result, int):
            self.found.append(result)
        return result
