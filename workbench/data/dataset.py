"""What a loader returns: images, labels, class names, and splits that never overlap."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from workbench.counting import counted
from workbench.errors import WorkbenchError

#: `test`: what figures are reported on. `validation`: never trained on; searches and early stopping
#: choose by it. `train`. `calibration`: part of train.
SPLITS = ("train", "calibration", "validation", "test")
#: The ``lessons`` of the bundled Fashion-MNIST and of the digits.
LESSONS_BEFORE = frozenset({"701cbd2f2e2c8bb7", "b144460b7ab20a25"})
#: What stands where an image has no label.
UNLABELLED = -1


@dataclass(frozen=True)
class Normalization:
    """Per-channel ``(x - mean) / std`` on images scaled to 0..1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not self.mean:
            raise WorkbenchError(
                f"A normalisation needs one mean and one std per channel, not {len(self.mean)} means "
                f"and {len(self.std)} stds."
            )
        if not all(value > 0 for value in self.std):
            raise WorkbenchError(f"The std of a normalisation must be positive, not {self.std}.")

    @classmethod
    def identity(cls, channels: int) -> Normalization:
        """Return the one that changes nothing (beyond scaling ``uint8`` to 0..1)."""
        return cls((0.0,) * channels, (1.0,) * channels)

    @classmethod
    def of(cls, images: Tensor) -> Normalization:
        """Return each channel's mean and standard deviation over ``images`` ``(N, C, H, W)``.

        Rounded to four decimals, or four digits of a std below 0.001, so that what is shown is what is used; a
        constant channel gets std 1.
        """
        channels = images.shape[1]
        total, squares = torch.zeros(2, channels, dtype=torch.float64)
        for chunk in images.split(512):
            values = chunk.double()
            total += values.sum((0, 2, 3))
            squares += values.square_().sum((0, 2, 3))
        count = images.numel() // channels
        scale = 255 if images.dtype == torch.uint8 else 1
        mean = total / count
        std = (squares / count - mean.square()).clamp_min(0).sqrt() / scale
        constant = images.amin((0, 2, 3)) == images.amax((0, 2, 3))
        spread = [0.0 if still else float(value) for value, still in zip(std, constant, strict=True)]
        digits = [4 if value >= 1e-3 or value == 0 else 3 - math.floor(math.log10(value)) for value in spread]
        return cls(
            tuple(round(float(value), places) for value, places in zip(mean / scale, digits, strict=True)),
            tuple(round(value, places) or 1.0 for value, places in zip(spread, digits, strict=True)),
        )

    def __call__(self, images: Tensor) -> Tensor:
        """Return float32 images ``(N, C, H, W)``; ``uint8`` input is divided by 255 first."""
        if images.shape[1] != len(self.mean) != 1:
            raise WorkbenchError(
                f"The normalisation has {counted(len(self.mean), 'channel')} and the images have {images.shape[1]}; "
                f"give one mean and std per channel."
            )
        scaled = images.float().div_(255) if images.dtype == torch.uint8 else images.float()
        shape = (1, -1) + (1,) * (images.ndim - 2)
        mean = torch.tensor(self.mean).view(shape)
        std = torch.tensor(self.std).view(shape)
        return (scaled - mean) / std

    def __str__(self) -> str:
        def rounded(values: tuple[float, ...]) -> str:
            return ", ".join(f"{value:.3g}" for value in values)

        return f"mean {rounded(self.mean)}; std {rounded(self.std)}"


@dataclass(frozen=True, eq=False)
class Split:
    """One contiguous set: ``images`` ``(N, C, H, W)`` (uint8 or float), ``labels`` ``(N,)`` int64.

    Where the images have no labels, all of these are ``UNLABELLED``; a set has labels for all or for none.
    """

    name: str
    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def labelled(self) -> bool:
        """Whether the right answers are known."""
        return len(self) > 0 and bool((self.labels != UNLABELLED).all())

    @cached_property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of the images and labels."""
        digest = hashlib.sha256(repr((tuple(self.images.shape), self.images.dtype)).encode())
        digest.update(self.images.contiguous().numpy().data)
        digest.update(self.labels.contiguous().numpy().data)
        return digest.hexdigest()[:16]

    def drawn(self, count: int) -> Tensor:
        """Return the places of ``count`` images at most, in an order of chance that is always the same.

        Splits are often sorted by class: their first images say nothing of the other classes.
        """
        return torch.from_numpy(np.random.default_rng(0).permutation(len(self))[:count])

    def take(self, indices: Tensor, name: str | None = None) -> Split:
        """Return the images at ``indices`` as a split of its own."""
        return Split(name or self.name, self.images[indices], self.labels[indices])


@dataclass(frozen=True, eq=False)
class Dataset:
    """A named task: its splits, class names, normalisation and where it came from.

    ``classes`` is empty where no split has labels and nobody named them; a Session then numbers the model's outputs.
    ``task`` names the entry of ``workbench.measure.task`` that judges outputs on it. ``notes`` are
    sentences a person should see: what was resized, cut or left out while loading. ``learned`` is a hash that tells
    apart what is judged on the same images and calibrates and trains on made ones: figures kept for one are not the
    other's. Of all others ``lessons`` tells apart what steps learn from.
    """

    name: str
    splits: Mapping[str, Split]
    classes: tuple[str, ...]
    normalization: Normalization
    source: str = ""
    notes: tuple[str, ...] = field(default=())
    task: str = "classification"
    learned: str = ""

    def __getitem__(self, split: str) -> Split:
        """Return a split, or raise ``WorkbenchError`` naming those there are."""
        if split not in self.splits:
            have = ", ".join(f"{name} ({len(part):,})" for name, part in self.splits.items())
            raise WorkbenchError(f"Dataset '{self.name}' has no split '{split}'; it has {have}.")
        return self.splits[split]

    @cached_property
    def lessons(self) -> str:
        """A hash of the images and labels that steps calibrate and train on; empty where there are none.

        Empty also where ``learned`` tells, and for the data that came with the workbench before this was noted:
        what was measured of them stays valid.
        """
        taught = "".join(self.splits[name].hash for name in ("calibration", "train") if name in self.splits)
        found = hashlib.sha256(taught.encode()).hexdigest()[:16] if taught and not self.learned else ""
        return "" if found in LESSONS_BEFORE else found

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Channels, height and width of one image."""
        return tuple(next(iter(self.splits.values())).images.shape[1:])

    def in_order(self, classes: tuple[str, ...]) -> Dataset:
        """Return it with its classes numbered as a model with outputs for ``classes`` numbers them, and a note of it.

        Folders are numbered by their names' order, the model by that of its training. Where the names are not just
        the same ones in another order, nothing is known, and nothing changes.
        """
        same = len(classes) == len(self.classes) == len(set(classes)) and set(classes) == set(self.classes)
        if not same or classes == self.classes:
            return self
        # the last place is that of UNLABELLED, which is -1
        places = torch.tensor([*(classes.index(name) for name in self.classes), UNLABELLED])
        splits = {key: replace(split, labels=places[split.labels]) for key, split in self.splits.items()}
        note = f"The classes are numbered in the model's order ({classes[0]}, {classes[1]}, ...)."
        return replace(self, splits=splits, classes=classes, notes=(*self.notes, note))

    def require_image_shape(self, shape: tuple[int, ...], wanted_by: str) -> None:
        """Raise ``WorkbenchError`` unless images have ``shape`` ``(C, H, W)``, as ``wanted_by`` needs."""
        if self.image_shape != tuple(shape):
            raise WorkbenchError(
                f"{wanted_by} takes images of {shown_shape(shape)} (channels×height×width) and dataset "
                f"'{self.name}' has {shown_shape(self.image_shape)}; resize its images (for a folder or a .parquet "
                f"file load_dataset does, by image_size= and channels=), or choose another dataset."
            )


def shown_shape(shape: tuple[int, ...]) -> str:
    """Return ``3×32×32`` for ``(3, 32, 32)``."""
    return "×".join(str(side) for side in shape)
