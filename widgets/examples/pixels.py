"""Images of a data set as a page can show them: small pictures, and pixels at full size.

``uint8`` images are shown as they are; floats by the least and the largest value of their whole split, so
that two images shown side by side are on one scale. One channel is grey, three are red, green and blue,
and of any other number the mean is shown.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from workbench.data.dataset import Split

Pixels = NDArray[np.uint8]

#: The longer side of a small picture, at most.
SMALL = 32
#: The longer side of an enlarged one, at most.
LARGE = 256
#: Quality of the small pictures: about 200 bytes for 28×28 grey, and no difference to be seen.
QUALITY = 80


@cache
def encoder() -> str:
    """Load what encodes small pictures, which takes tens of milliseconds, and return the name of their format."""
    from PIL import Image, features

    Image.init()
    return "WEBP" if features.check("webp") else "JPEG"


class Palette:
    """How one split's images become pixels."""

    def __init__(self, split: Split) -> None:
        self._images = split.images
        self.shape: tuple[int, ...] = tuple(split.images.shape[1:])
        self._range: tuple[float, float] | None = None

    @property
    def span(self) -> tuple[float, float]:
        """The values drawn black and white: 0 and 255, or the least and the largest float of the split."""
        if self._range is None:
            low, high = (0.0, 255.0)
            if self._images.dtype != torch.uint8:
                finite = torch.nan_to_num(self._images, 0.0, 0.0, 0.0)
                low, high = (float(value) for value in finite.aminmax())
            self._range = low, high
        return self._range

    def picture(self, image: Tensor, longest: int) -> Pixels:
        """Return ``image`` ``(C, H, W)`` as ``(H, W, 1 or 3)``, its longer side at most ``longest``."""
        values = torch.nan_to_num(image.float())
        if len(values) not in (1, 3):
            values = values.mean(0, keepdim=True)
        height, width = values.shape[1:]
        shrink = max(height, width) / longest
        if shrink > 1:
            size = max(1, round(height / shrink)), max(1, round(width / shrink))
            values = torch.nn.functional.interpolate(values[None], size, mode="area")[0]
        low, high = self.span
        scaled = (values - low) / ((high - low) or 1) * 255
        pixels: Pixels = scaled.clamp(0, 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
        return pixels

    def image(self, pixels: Pixels) -> Tensor:
        """Return pixels ``(H, W, 1 or 3)`` of the split's size as an image ``(C, H, W)`` on its scale."""
        channels = self.shape[0]
        values = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)
        if len(values) != channels:
            values = values[:1].expand(channels, -1, -1)
        if self._images.dtype == torch.uint8:
            return values.clone()
        low, high = self.span
        return low + values.float() / 255 * (high - low)

    def sheet(self, images: Sequence[int]) -> tuple[bytes, tuple[int, int]]:
        """Return one encoded picture of the images at these indices, one below the other, and each one's size."""
        from PIL import Image

        pictures = [self.picture(self._images[index], SMALL) for index in images]
        height, width, channels = pictures[0].shape
        stacked = np.concatenate(pictures)
        target = io.BytesIO()
        picture = Image.fromarray(stacked[..., 0] if channels == 1 else stacked)
        picture.save(target, encoder(), quality=QUALITY)
        return target.getvalue(), (height, width)
