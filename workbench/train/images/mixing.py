"""Images that are mixed two by two, and their labels with them.

``mixup``: each image is a weighted mean of itself and another of its batch (Zhang et al. 2018). ``cutmix``: a
rectangle of it is another's (Yun et al. 2019). The share that is its own is drawn from Beta(α, α) once a batch;
the label has as much of the other class as the image has of the other image.
"""

from __future__ import annotations

import random
from math import sqrt

import torch
from torch import Tensor
from torch.nn import functional as F


def mixed(
    images: Tensor, labels: Tensor, classes: int, how: str, alpha: float, chance: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return mixed ``images`` and labels as shares of ``classes`` ``(N, classes)``; both as given for ``none``."""
    if how == "none":
        return images, labels
    share = random.Random(int(torch.randint(2**62, (), generator=chance))).betavariate(alpha, alpha)
    other = torch.randperm(len(labels), generator=chance)
    if how == "mixup":
        images = share * images + (1 - share) * images[other]
    else:
        images, share = _pasted(images, images[other], share, chance)
    whole = F.one_hot(labels, classes).to(images.dtype)
    return images, share * whole + (1 - share) * whole[other]


def _pasted(images: Tensor, others: Tensor, share: float, chance: torch.Generator) -> tuple[Tensor, float]:
    """Return ``images`` with a rectangle of ``others`` and the share that is left of them; it may reach outside."""
    height, width = images.shape[-2:]
    side = sqrt(1 - share)
    middle = torch.rand(2, generator=chance).tolist()
    top, bottom = _span(middle[0], side, height)
    left, right = _span(middle[1], side, width)
    images = images.clone()
    images[..., top:bottom, left:right] = others[..., top:bottom, left:right]
    return images, 1 - (bottom - top) * (right - left) / (height * width)


def _span(middle: float, side: float, length: int) -> tuple[int, int]:
    first = round((middle - side / 2) * length)
    return max(0, first), min(length, first + round(side * length))
