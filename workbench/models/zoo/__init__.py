"""The zoo: architectures by name, and the checkpoints trained by ``workbench.train.zoo``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from .lenet import LeNet5, LeNet300
from .lstm import RowLSTM
from .mobilenet import MobileNetV2
from .resnet import ResNet20
from .shufflenet import ShuffleNetV2
from .squeezenet import SqueezeNet
from .vit import ViT

CHECKPOINTS = Path(__file__).parent / "checkpoints"

#: name -> constructor of the architecture, with random weights.
ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    "lenet300": LeNet300,
    "lenet5": LeNet5,
    "resnet20": ResNet20,
    "mobilenetv2": MobileNetV2,
    "shufflenetv2": ShuffleNetV2,
    "squeezenet": SqueezeNet,
    "vit": ViT,
    "lstm": RowLSTM,
}

__all__ = [
    "ARCHITECTURES",
    "CHECKPOINTS",
    "LeNet5",
    "LeNet300",
    "MobileNetV2",
    "ResNet20",
    "RowLSTM",
    "ShuffleNetV2",
    "SqueezeNet",
    "ViT",
]
