"""What a training learns from: the training images, or some that ``workbench.train.synthetic`` makes."""

from __future__ import annotations

from typing import Literal

#: Without any image: from what BatchNorm remembers, from the classes alone, noise. From training images: by a
#: generator, by one with classes, as mixtures.
Made = Literal["deepinversion", "impressions", "noise", "gan", "class_gan", "mixup"]
LearnFrom = Literal["train", "deepinversion", "impressions", "noise", "gan", "class_gan", "mixup"]
