"""What images can be made from; a new source is one function and one entry of ``SOURCES``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from workbench.data.dataset import Normalization, Split

from .gan import generate, train_generator
from .inversion import Pull, balanced, check_statistics, invert

#: Images that are made together: their statistics are compared with BatchNorm's, so they must be many.
TOGETHER = 128
#: Images in a step of a generator's training.
BATCH = 64


@dataclass(frozen=True, eq=False)
class Ingredients:
    """What images are made from. ``real`` is empty for a source that looks at no image.

    ``pixels``: images are pixels from 0 to 1, rather than floats of somebody's own scale. ``advance`` is told the
    share that is done, and may raise.
    """

    module: nn.Module
    name: str
    shape: tuple[int, ...]
    classes: int
    normalization: Normalization
    pixels: bool
    images: int
    steps: int
    seed: int
    real: Split
    advance: Callable[[float], None] = lambda share: None

    @torch.inference_mode()
    def answers(self, images: Tensor) -> Tensor:
        """Return the class that the model takes each image for."""
        self.module.eval()
        return torch.cat([self.module(self.normalization(part)).argmax(1) for part in images.split(256)])


Made = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Source:
    """One way to make images: ``make`` returns them ``(N, C, H, W)``, scaled as the real ones, and labels ``(N,)``.

    ``looks``: whether it needs real training images. ``images`` and ``steps`` are what it makes and takes unless
    said otherwise.
    """

    summary: str
    reference: str
    make: Callable[[Ingredients], Made]
    looks: bool
    images: int
    steps: int = 0


def _deepinversion(given: Ingredients) -> Made:
    check_statistics(given.module, given.name)
    return _inverted(given, Pull())


def _impressions(given: Ingredients) -> Made:
    return _inverted(given, Pull(statistics=0.0))


def _inverted(given: Ingredients, pull: Pull) -> Made:
    labels = balanced(given.images, given.classes)
    parts = labels.chunk(max(1, round(given.images / TOGETHER)))
    made = []
    for place, part in enumerate(parts):

        def told(step: int, place: int = place) -> None:
            given.advance((place + step / given.steps) / len(parts))

        made.append(
            invert(given.module, part, given.shape, given.normalization, pull, given.steps, given.seed + place,
                   given.pixels, told)
        )  # fmt: skip
    return torch.cat(made), labels


def _noise(given: Ingredients) -> Made:
    chance = torch.Generator().manual_seed(given.seed)
    mean, std = (torch.tensor(part).view(-1, 1, 1) for part in (given.normalization.mean, given.normalization.std))
    images = torch.randn(given.images, *given.shape, generator=chance) * std + mean
    images = images.clamp(0, 1) if given.pixels else images
    return images, given.answers(images)


def _gan(given: Ingredients) -> Made:
    images = _generated(given, None)
    return images, given.answers(images)


def _class_gan(given: Ingredients) -> Made:
    return _generated(given, given.real.labels), balanced(given.images, given.classes)


def _generated(given: Ingredients, labels: Tensor | None) -> Tensor:
    real = _scaled(given.real.images)
    low, high = (0.0, 1.0) if given.pixels else (float(real.min()), float(real.max()))
    span = max(high - low, 1e-6)
    generator = train_generator(
        2 * (real - low) / span - 1, labels, given.classes, given.steps, BATCH, given.seed,
        lambda step: given.advance(step / given.steps),
    )  # fmt: skip
    made = generate(generator, balanced(given.images, given.classes), given.seed + 1)
    return (made + 1) / 2 * span + low


def _mixup(given: Ingredients) -> Made:
    """Two images each, of whatever classes, in any share alike; the label is that of the larger share.

    Where the images have no labels it is the model's answer.
    """
    chance = torch.Generator().manual_seed(given.seed)
    one, other = torch.randint(len(given.real), (2, given.images), generator=chance)
    share = torch.rand(given.images, generator=chance)
    real, wide = given.real, share.view(-1, 1, 1, 1)
    images = wide * _scaled(real.images[one]) + (1 - wide) * _scaled(real.images[other])
    labels = torch.where(share > 0.5, real.labels[one], real.labels[other])
    return images, labels if real.labelled else given.answers(images)


def _scaled(images: Tensor) -> Tensor:
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


SOURCES: dict[str, Source] = {
    "deepinversion": Source(
        "made to give the means and variances that BatchNorm remembers; no image is looked at",
        "Yin et al. 2020", _deepinversion, looks=False, images=512, steps=60,
    ),
    "impressions": Source(
        "made until the model is sure of a class; for models without BatchNorm, no image is looked at",
        "Nayak et al. 2019", _impressions, looks=False, images=512, steps=60,
    ),
    "noise": Source("Gaussian noise, for comparison", "", _noise, looks=False, images=2_000),
    "gan": Source(
        "by a small generator trained on the training images; the model labels them",
        "Goodfellow et al. 2014; Miyato et al. 2018", _gan, looks=True, images=5_000, steps=2_000,
    ),
    "class_gan": Source(
        "by a small generator with classes trained on the training images",
        "Miyato and Koyama 2018", _class_gan, looks=True, images=5_000, steps=2_000,
    ),
    "mixup": Source("mixtures of two training images", "Zhang et al. 2018", _mixup, looks=True, images=5_000),
}  # fmt: skip
