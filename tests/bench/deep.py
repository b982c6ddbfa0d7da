"""An untrained model of 300 layers, for what must stay quick however deep a model is."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from workbench.models.zoo.resnet import BasicBlock

#: Residual blocks in each of three stages: 1 + 2 · 149 + 1 = 300 layers, and two 1×1 shortcuts.
BLOCKS = (50, 50, 49)


class DeepResNet(nn.Module):
    """A residual network as ResNet-20, of 302 layers and 4.8 M parameters, for images ``(1, 28, 28)``."""

    def __init__(self, width: int = 16, classes: int = 10) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width)
        self.conv1 = nn.Conv2d(1, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        blocks: list[nn.Module] = []
        inputs = width
        for stage, (outputs, count) in enumerate(zip(widths, BLOCKS, strict=True)):
            for place in range(count):
                blocks.append(BasicBlock(inputs, outputs, 2 if stage and place == 0 else 1))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits ``(N, classes)``."""
        x = self.blocks(torch.relu(self.bn1(self.conv1(x))))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


def deep_model(seed: int = 0) -> DeepResNet:
    """Return the model with the same weights every time."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return DeepResNet().eval()
