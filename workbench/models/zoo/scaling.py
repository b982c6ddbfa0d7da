"""The zoo's architectures, narrower or shallower: what a student designer's two sliders mean for each.

Widths are rounded to multiples of four, which runtimes like (``FOUR``); depths to whole blocks of each stage, one at
least. With width and depth 1 each is the architecture itself.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from . import shufflenet, squeezenet
from .lenet import LeNet5, LeNet300
from .lstm import RowLSTM
from .mobilenet import MobileNetV2
from .resnet import ResNet20
from .shufflenet import ShuffleNetV2
from .squeezenet import SqueezeNet
from .vit import ViT

#: Channels come in multiples of this.
FOUR = 4


def _wide(channels: int, width: float) -> int:
    """Return ``channels`` times ``width``: a multiple of four, unless nothing was scaled."""
    return channels if width == 1 else max(FOUR, round(channels * width / FOUR) * FOUR)


def _deep(blocks: int, depth: float) -> int:
    return max(1, round(blocks * depth))


def _lenet300(width: float, depth: float) -> nn.Module:
    return LeNet300(hidden=(_wide(300, width), _wide(100, width)))


def _lenet5(width: float, depth: float) -> nn.Module:
    return LeNet5(widths=(_wide(20, width), _wide(50, width), _wide(500, width)))


def _resnet20(width: float, depth: float) -> nn.Module:
    return ResNet20(width=_wide(16, width), blocks=_deep(3, depth))


def _mobilenetv2(width: float, depth: float) -> nn.Module:
    return MobileNetV2(width=0.5 * width, depth=depth)


def _shufflenetv2(width: float, depth: float) -> nn.Module:
    stages = tuple((_wide(channels, width), _deep(units, depth)) for channels, units in shufflenet.STAGES)
    return ShuffleNetV2(head=_wide(256, width), stages=stages)


def _squeezenet(width: float, depth: float) -> nn.Module:
    stages = tuple(
        tuple(
            (_wide(squeezed, width), _wide(expanded, width)) for squeezed, expanded in stage[: _deep(len(stage), depth)]
        )
        for stage in squeezenet.STAGES
    )
    return SqueezeNet(width=_wide(32, width), stages=stages)


def _vit(width: float, depth: float) -> nn.Module:
    return ViT(width=_wide(64, width), depth=_deep(4, depth))


def _lstm(width: float, depth: float) -> nn.Module:
    return RowLSTM(hidden=_wide(96, width), layers=_deep(2, depth))


#: name -> constructor of (width, depth), and whether depth changes anything.
SCALED: dict[str, tuple[Callable[[float, float], nn.Module], bool]] = {
    "lenet300": (_lenet300, False),
    "lenet5": (_lenet5, False),
    "resnet20": (_resnet20, True),
    "mobilenetv2": (_mobilenetv2, True),
    "shufflenetv2": (_shufflenetv2, True),
    "squeezenet": (_squeezenet, True),
    "vit": (_vit, True),
    "lstm": (_lstm, True),
}
