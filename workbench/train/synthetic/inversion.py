"""Images made from a trained model alone: no training image is looked at.

Noise is changed until the model takes it for a class and until its BatchNorm layers see the means and variances
that they remember of the training images (Yin et al. 2020, "DeepInversion"). Without the second term the images
are class impressions (Nayak et al. 2019): the model is sure of them, and they look like nothing. Either way a
small total variation keeps them smooth, and shifts and mirroring keep single pixels from mattering.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from workbench.calls import entering
from workbench.data.dataset import Normalization
from workbench.errors import WorkbenchError

#: How much more the statistics of the first BatchNorm weigh, as in the paper's code for CIFAR-10: those closest
#: to the pixels.
FIRST = 10.0
#: Pixels that an image is shifted by at most in each step, as a share of its side.
SHIFT = 1 / 14


@dataclass(frozen=True)
class Pull:
    """How the parts of the loss weigh beside the cross-entropy with the wanted class."""

    statistics: float = 1.0
    smoothness: float = 0.02


class Statistics:
    """How far the statistics of what reaches each BatchNorm are from those it remembers, in the last pass."""

    def __init__(self, module: nn.Module) -> None:
        self._found: list[Tensor] = []
        norms = [part for part in module.modules() if remembers(part)]
        self._handles = [part.register_forward_pre_hook(self._compare, with_kwargs=True) for part in norms]

    def far(self) -> Tensor:
        """Return the weighted sum over layers, and forget them."""
        first, *others = self._found
        self._found = []
        return FIRST * first + torch.stack(others).sum() if others else FIRST * first

    def _compare(self, norm: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        (values,) = entering(norm, args, kwargs)
        assert isinstance(norm, _BatchNorm)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        places = [axis for axis in range(values.ndim) if axis != 1]
        variance, mean = torch.var_mean(values, places, correction=0)
        self._found.append((mean - norm.running_mean).norm() + (variance - norm.running_var).norm())


def remembers(module: nn.Module) -> bool:
    """Whether ``module`` is a BatchNorm that keeps the statistics of its training."""
    return isinstance(module, _BatchNorm) and module.running_mean is not None


def check_statistics(module: nn.Module, name: str) -> None:
    """Raise ``WorkbenchError`` where no layer remembers any statistics, and say what serves instead."""
    if not any(map(remembers, module.modules())):
        raise WorkbenchError(
            f"'{name}' has no BatchNorm whose statistics images could be made from: take 'impressions', which needs "
            "no statistics, or where some images may be used 'class_gan', 'gan' or 'mixup'."
        )


def invert(
    module: nn.Module,
    labels: Tensor,
    shape: tuple[int, ...],
    normalization: Normalization,
    pull: Pull,
    steps: int,
    seed: int,
    pixels: bool = True,
    check: Callable[[int], None] = lambda step: None,
) -> Tensor:
    """Return images ``(N, C, H, W)`` that ``module`` takes for ``labels``, scaled as before normalising.

    ``pixels``: keep them within 0 to 1. ``check`` is called after each step and may raise.
    """
    model = copy.deepcopy(module).eval().requires_grad_(False)
    statistics = Statistics(model) if pull.statistics else None
    chance = torch.Generator().manual_seed(seed)
    low, high = _bounds(normalization, pixels)
    images = torch.randn(len(labels), *shape, generator=chance).clamp_(low, high).requires_grad_()
    optimizer = torch.optim.Adam([images], betas=(0.5, 0.9))
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.2 * 0.5 * (1 + math.cos(math.pi * step / steps))
        seen = _moved(images, chance)
        loss = F.cross_entropy(model(seen), labels)
        if statistics is not None:
            loss = loss + pull.statistics * statistics.far()
        loss = loss + pull.smoothness * _roughness(images)
        (images.grad,) = torch.autograd.grad(loss, images)
        optimizer.step()
        with torch.no_grad():
            images.clamp_(low, high)
        check(step + 1)
    return _denormalized(images.detach(), normalization)


def balanced(count: int, classes: int) -> Tensor:
    """Return ``count`` labels, each class as often as the others, in turn."""
    return torch.arange(count) % classes


def _moved(images: Tensor, chance: torch.Generator) -> Tensor:
    height, width = images.shape[2:]
    reach = max(1, round(SHIFT * min(height, width)))
    rows, columns = (int(by) for by in torch.randint(-reach, reach + 1, (2,), generator=chance))
    moved = torch.roll(images, (rows, columns), (2, 3))
    return moved.flip(3) if bool(torch.rand((), generator=chance) < 0.5) else moved


def _roughness(images: Tensor) -> Tensor:
    """Return the mean absolute difference of neighbouring pixels."""
    down, right = images.diff(dim=2).abs().mean(), images.diff(dim=3).abs().mean()
    return down + right


def _bounds(normalization: Normalization, pixels: bool) -> tuple[Tensor, Tensor]:
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (normalization.mean, normalization.std))
    if not pixels:
        return torch.full_like(mean, -math.inf), torch.full_like(mean, math.inf)
    return -mean / std, (1 - mean) / std


def _denormalized(images: Tensor, normalization: Normalization) -> Tensor:
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (normalization.mean, normalization.std))
    return images * std + mean
