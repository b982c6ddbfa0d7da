"""How both models stand simple corruptions of the images: noise, blur, contrast and JPEG.

The corruptions are those of Hendrycks and Dietterich 2019 ("Benchmarking Neural Network Robustness to Common
Corruptions") in their simplest form, in three strengths, on images scaled to 0..1. Both models see the very
same corrupted images, so that what is compared is paired.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workbench.run.runner import Runner

from .calibration import right_of
from .classes import Change, Share, paired_change, require_labels, wilson

#: Standard deviation, sigma in pixels of a side of 32, factor, quality; for each strength.
STRENGTHS: dict[str, tuple[float, float, float]] = {
    "noise": (0.04, 0.08, 0.16),
    "blur": (0.5, 0.9, 1.5),
    "contrast": (0.7, 0.45, 0.25),
    "jpeg": (50, 20, 8),
}
IMAGES, BATCH = 1_000, 64


@dataclass(frozen=True)
class Robustness:
    """Both models on one corruption of ``strength`` 1 to 3 (0: clean). ``change`` is after minus before, paired."""

    corruption: str
    strength: int
    before: Share
    after: Share
    change: Change

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


def measure_robustness(
    before: Runner,
    after: Runner,
    images: Tensor,
    labels: NDArray[np.integer[Any]],
    normalize: Callable[[Tensor], Tensor],
    check: Callable[[], None] = lambda: None,
) -> Iterator[Robustness]:
    """Yield the figures of clean images, then of each corruption and strength, as they come.

    ``images`` ``(N, C, H, W)`` are raw; runners are as ``Session.runner`` gives them. ``check`` is called between
    batches and may raise. Raises ``WorkbenchError`` where labels are missing.
    """
    require_labels(labels, "Robustness")
    cases = [("clean", 0), *((name, strength) for name in STRENGTHS for strength in (1, 2, 3))]
    for name, strength in cases:
        corrupted = images if name == "clean" else corrupt(images, name, strength)
        right = [np.empty(0, bool), np.empty(0, bool)]
        for batch, truth in zip(
            corrupted.split(BATCH), np.split(labels, range(BATCH, len(labels), BATCH)), strict=True
        ):
            check()
            prepared = normalize(batch).contiguous()
            for place, runner in enumerate((before, after)):
                right[place] = np.concatenate([right[place], right_of(runner.logits(prepared), truth)])
        one, other = right
        n, lost, won = len(labels), (one & ~other).sum(), (other & ~one).sum()
        yield Robustness(name, strength, wilson(one.sum(), n), wilson(other.sum(), n), paired_change(lost, won, n))


def corrupt(images: Tensor, corruption: str, strength: int, seed: int = 0) -> Tensor:
    """Return ``images`` ``(N, C, H, W)`` corrupted, of the same type and range; noise is drawn from ``seed``.

    Floats are scaled by their own least and largest value.
    """
    level = STRENGTHS[corruption][strength - 1]
    low, high = (0.0, 255.0) if images.dtype == torch.uint8 else (float(images.min()), float(images.max()))
    values = (images.float() - low) / ((high - low) or 1)
    if corruption == "noise":
        values = values + level * torch.randn(values.shape, generator=torch.Generator().manual_seed(seed))
    elif corruption == "blur":
        values = _blur(values, level * max(28, min(values.shape[-2:])) / 32)  # below half a pixel it does nothing
    elif corruption == "contrast":
        mean = values.mean((2, 3), keepdim=True)
        values = mean + level * (values - mean)
    else:
        values = _jpeg(values, int(level))
    values = values.clamp(0, 1) * (high - low) + low
    return values.round().to(torch.uint8) if images.dtype == torch.uint8 else values.to(images.dtype)


def _blur(values: Tensor, sigma: float) -> Tensor:
    """Blur with a Gaussian, the border repeated."""
    reach = min(max(1, round(3 * sigma)), min(values.shape[-2:]) - 1)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    kernel = kernel / kernel.sum()
    count, channels, height, width = values.shape
    flat = torch.nn.functional.pad(values.reshape(-1, 1, height, width), (reach,) * 4, mode="replicate")
    flat = torch.nn.functional.conv2d(
        torch.nn.functional.conv2d(flat, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1)
    )
    return flat.reshape(count, channels, height, width)


def _jpeg(values: Tensor, quality: int) -> Tensor:
    """Write and read each image as JPEG; images that are not of three channels, channel by channel."""
    from PIL import Image

    coloured = values.shape[1] == 3
    pixels = (values.clamp(0, 1) * 255).round().to(torch.uint8)
    sheets = pixels.permute(0, 2, 3, 1).numpy() if coloured else pixels.flatten(0, 1).numpy()
    read = []
    for sheet in sheets:
        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(sheet)).save(file, "JPEG", quality=quality)
        read.append(np.asarray(Image.open(file)))
    found = torch.from_numpy(np.stack(read)).float() / 255
    return found.permute(0, 3, 1, 2) if coloured else found.reshape(values.shape)
