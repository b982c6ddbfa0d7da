"""MobileNetV2 (Sandler et al. 2018) with its strides adapted to 28×28 images."""

from __future__ import annotations

from torch import Tensor, nn

#: (expansion, channels at width 1, blocks, stride), table 2 of the paper; the stem keeps the
#: resolution and the last downsampling is dropped, so that 28×28 becomes 14, 7 and 4.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 1),
    (6, 320, 1, 1),
)


class ConvBNReLU6(nn.Sequential):
    """Convolution, BatchNorm, ReLU6."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU6(),
        )


class InvertedResidual(nn.Module):
    """Expand, depthwise, project; with a shortcut where input and output have one shape."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = ConvBNReLU6(inputs, hidden, 1) if expansion != 1 else nn.Identity()
        self.depthwise = ConvBNReLU6(hidden, hidden, 3, stride, groups=hidden)
        self.project = nn.Sequential(nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + out if self.residual else out


class MobileNetV2(nn.Module):
    """MobileNetV2 for ``(N, channels, 28, 28)`` images, logits ``(N, num_classes)``.

    ``width`` scales every layer's channels, rounded to multiples of 8 as in the paper's code; ``depth`` the
    blocks of each stage.
    """

    def __init__(self, channels: int = 1, num_classes: int = 10, width: float = 0.5, depth: float = 1.0) -> None:
        super().__init__()
        inputs = _round8(32 * width)
        self.stem = ConvBNReLU6(channels, inputs, 3)
        blocks = []
        for expansion, base, count, stride in STAGES:
            outputs = _round8(base * width)
            for index in range(max(1, round(count * depth))):
                blocks.append(InvertedResidual(inputs, outputs, stride if index == 0 else 1, expansion))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = ConvBNReLU6(inputs, _round8(1280 * width), 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.1)
        self.classifier = nn.Linear(_round8(1280 * width), num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(self.blocks(self.stem(x)))
        logits: Tensor = self.classifier(self.dropout(self.pool(x).flatten(1)))
        return logits


def _round8(channels: float) -> int:
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
