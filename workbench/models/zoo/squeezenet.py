"""SqueezeNet 1.1 (Iandola et al. 2016) at half its width, with BatchNorm, for 28×28 images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: (squeezed channels, channels of each expansion) of the fire modules between two poolings, stage by stage.
Stages = tuple[tuple[tuple[int, int], ...], ...]
STAGES: Stages = (((8, 32), (8, 32)), ((16, 64), (16, 64)), ((24, 96), (24, 96), (32, 128), (32, 128)))


class Fire(nn.Module):
    """A 1×1 convolution to few channels; a 1×1 and a 3×3 convolution of those, concatenated (figure 1 of the paper)."""

    def __init__(self, inputs: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = _convolve(inputs, squeezed, 1)
        self.expand1 = _convolve(squeezed, expanded, 1)
        self.expand3 = _convolve(squeezed, expanded, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x)
        return torch.cat((self.expand1(x), self.expand3(x)), 1)


class SqueezeNet(nn.Module):
    """SqueezeNet 1.1 at width 0.5 for ``(N, channels, 28, 28)`` images, logits ``(N, num_classes)``.

    The stem keeps the resolution, so that the three poolings give 14, 7 and 3. A BatchNorm follows each
    convolution but the last, in place of the dropout; the last one's channels are the classes.
    """

    def __init__(self, channels: int = 1, num_classes: int = 10, width: int = 32, stages: Stages = STAGES) -> None:
        super().__init__()
        self.stem = _convolve(channels, width, 3)
        groups, inputs = [], width
        for stage in stages:
            modules: list[nn.Module] = [nn.MaxPool2d(3, 2, ceil_mode=True)]
            for squeezed, expanded in stage:
                modules.append(Fire(inputs, squeezed, expanded))
                inputs = 2 * expanded
            groups.append(nn.Sequential(*modules))
        self.stages = nn.Sequential(*groups)
        self.classifier = nn.Conv2d(inputs, num_classes, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.pool(self.classifier(self.stages(self.stem(x)))).flatten(1)
        return logits


def _convolve(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, 1, kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )
