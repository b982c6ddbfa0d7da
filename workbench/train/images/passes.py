"""Training images in an order that follows from a seed alone, each pass and each step its own.

Nothing is remembered between steps, so that a run broken off anywhere goes on as if it had not been.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.data.dataset import Normalization
from workbench.techniques.trained.base import views_of

from .mixing import mixed
from .randaugment import rand_augmented


@dataclass(frozen=True, eq=False)
class TrainingImages:
    """Images ``(N, C, H, W)`` with labels ``(N,)``, and how a batch of them is made.

    ``randaugment`` is a strength (0 for none); ``mix`` is none, mixup or cutmix, by Beta(``alpha``, ``alpha``),
    of labels from 0 to ``classes``.
    """

    images: Tensor
    labels: Tensor
    normalize: Normalization
    batch: int
    augment: str
    seed: int
    erase: float = 0.0
    randaugment: int = 0
    mix: str = "none"
    alpha: float = 1.0
    classes: int = 0

    @property
    def changed(self) -> bool:
        """Whether an image is another one in every pass."""
        return self.views != 1

    @property
    def views(self) -> int | None:
        """What an image can be; see ``views_of``."""
        return views_of(self.augment, self.erase, self.randaugment, self.mix)

    @property
    def steps(self) -> int:
        """Batches in one pass; what is left over after the last full one is left out."""
        return max(1, len(self.labels) // self.batch)

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield places, normalised images and labels of the batches of one pass, from batch ``start`` on.

        A mirrored image's place is as many further on as there are images: each view of one has its own.
        Labels are classes ``(N,)``, or shares of them ``(N, classes)`` where images are mixed.
        """
        order = torch.randperm(len(self.labels), generator=_chance(self.seed, epoch, 0))
        for step in range(start, self.steps):
            places = order[step * self.batch : (step + 1) * self.batch]
            labels, chance = self.labels[places], _chance(self.seed, epoch, step + 1)
            images = self.normalize(self._strongly(self.images[places], chance))
            if "flip" in self.augment:
                turned = torch.rand(len(images), generator=chance) < 0.5
                images = torch.where(turned.view(-1, 1, 1, 1), mirrored(images), images)
                places = places + len(self.labels) * turned
            if "crop" in self.augment:
                images = cropped(images, chance)
            images = erased(images, self.erase, chance)
            yield places, *mixed(images, labels, self.classes, self.mix, self.alpha, chance)

    def _strongly(self, images: Tensor, chance: torch.Generator) -> Tensor:
        """Return raw ``images`` after RandAugment, where it is asked for."""
        if not self.randaugment:
            return images
        pixels = images.float() / 255 if images.dtype == torch.uint8 else images
        return rand_augmented(pixels, self.randaugment, chance)


def mirrored(images: Tensor) -> Tensor:
    """Return ``images`` with left and right changed."""
    return images.flip(3)


def cropped(images: Tensor, chance: torch.Generator) -> Tensor:
    """Return ``images`` each cut out of its padded self at a place of its own."""
    count, _, height, width = images.shape
    padding = max(1, min(height, width) // 14)
    padded = F.pad(images, (padding,) * 4, value=float(images.min()))
    offsets = torch.randint(0, 2 * padding + 1, (2, count, 1, 1), generator=chance)
    rows, columns = offsets[0] + torch.arange(height).view(1, -1, 1), offsets[1] + torch.arange(width).view(1, 1, -1)
    return padded[torch.arange(count).view(-1, 1, 1), :, rows, columns].permute(0, 3, 1, 2).contiguous()


def erased(images: Tensor, side: float, chance: torch.Generator) -> Tensor:
    """Return ``images`` with a square set to their mean, each at a place of its own, maybe half outside.

    ``side`` is a share of the smaller side (DeVries and Taylor 2017, "Cutout").
    """
    count, _, height, width = images.shape
    size = round(side * min(height, width))
    if size == 0:
        return images
    middle = torch.rand(2, count, 1, 1, 1, generator=chance) * torch.tensor([height, width]).view(2, 1, 1, 1, 1)
    rows = (torch.arange(height).view(1, 1, -1, 1) + 0.5 - middle[0]).abs() < size / 2
    columns = (torch.arange(width).view(1, 1, 1, -1) + 0.5 - middle[1]).abs() < size / 2
    return images.masked_fill(rows & columns, float(images.mean()))


def _chance(*parts: int) -> torch.Generator:
    """Return a generator whose stream is that of ``parts``."""
    mixed = 0
    for part in parts:
        mixed = (mixed * 1_000_003 + part + 1) % (2**62)
    return torch.Generator().manual_seed(mixed)
