"""ShuffleNetV2 (Ma et al. 2018) with its strides adapted to 28×28 images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: (channels, units): table 5 of the paper at width 0.5; each stage halves the resolution.
STAGES = ((48, 4), (96, 8), (192, 4))


class ShuffleUnit(nn.Module):
    """Half of the channels pass by, the others are convolved; then the two halves are shuffled.

    With ``stride`` 2 both halves read all channels and are convolved (figure 3d of the paper).
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        half = outputs // 2
        self.stride = stride
        self.shortcut: nn.Module = nn.Identity()
        if stride == 2:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
                nn.BatchNorm2d(inputs),
                nn.Conv2d(inputs, half, 1, bias=False),
                nn.BatchNorm2d(half),
                nn.ReLU(),
            )
        self.branch = nn.Sequential(
            nn.Conv2d(inputs if stride == 2 else half, half, 1, bias=False),
            nn.BatchNorm2d(half),
            nn.ReLU(),
            nn.Conv2d(half, half, 3, stride, 1, groups=half, bias=False),
            nn.BatchNorm2d(half),
            nn.Conv2d(half, half, 1, bias=False),
            nn.BatchNorm2d(half),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        left, right = (x, x) if self.stride == 2 else x.chunk(2, 1)
        return shuffle_channels(torch.cat((self.shortcut(left), self.branch(right)), 1))


class ShuffleNetV2(nn.Module):
    """ShuffleNetV2 at width 0.5 for ``(N, channels, 28, 28)`` images, logits ``(N, num_classes)``.

    The pooling after the stem is dropped, so that 28×28 becomes 14, 7, 4 and 2; the last convolution has 256
    channels instead of 1,024, for ten classes.
    """

    def __init__(
        self, channels: int = 1, num_classes: int = 10, head: int = 256, stages: tuple[tuple[int, int], ...] = STAGES
    ) -> None:
        super().__init__()
        inputs = 24
        self.stem = nn.Sequential(nn.Conv2d(channels, inputs, 3, 2, 1, bias=False), nn.BatchNorm2d(inputs), nn.ReLU())
        units = []
        for outputs, count in stages:
            for index in range(count):
                units.append(ShuffleUnit(inputs, outputs, 2 if index == 0 else 1))
                inputs = outputs
        self.units = nn.Sequential(*units)
        self.head = nn.Sequential(nn.Conv2d(inputs, head, 1, bias=False), nn.BatchNorm2d(head), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(head, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(self.units(self.stem(x)))
        logits: Tensor = self.classifier(self.pool(x).flatten(1))
        return logits


def shuffle_channels(x: Tensor, groups: int = 2) -> Tensor:
    """Return ``x``, ``(N, C, H, W)``, with the channels of its ``groups`` interleaved."""
    count, channels, height, width = x.shape
    return x.view(count, groups, channels // groups, height, width).transpose(1, 2).reshape(x.shape)
