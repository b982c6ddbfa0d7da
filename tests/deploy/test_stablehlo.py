"""What JAX is asked to express, and what it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from workbench.data.dataset import Dataset
from workbench.deploy.format import FormatError
from workbench.deploy.formats import FORMATS
from workbench.deploy.writing import prepare, write
from workbench.models.load import load_model
from workbench.recipe import Recipe

pytestmark = pytest.mark.skipif(not FORMATS["stablehlo"].installed, reason=FORMATS["stablehlo"].install)


class Pooled(nn.Module):
    """Pools with padding, rounded up, and a mean, which the zoo does not have."""

    def __init__(self, sort: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, stride=2, dilation=2, groups=1)
        self.up = nn.MaxPool2d(3, 2, padding=1, ceil_mode=True)
        self.mean = nn.AvgPool2d(2)
        self.head = Sorted() if sort else nn.Identity()
        self.fc = nn.Linear(54, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mean(self.up(torch.nn.functional.gelu(self.conv(x))))
        logits: Tensor = self.fc(self.head(x.flatten(1)))
        return logits


class Sorted(nn.Module):
    """Sorts what it is given."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sort(1).values


def test_strides_dilation_padding_and_rounding_up_are_those_of_pytorch(little_data: Dataset, tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = prepare(load_model(Pooled().eval()), little_data, Recipe())
    path, *_ = write(FORMATS["stablehlo"], source, tmp_path)
    images = torch.randn(3, 1, 28, 28)
    with torch.no_grad():
        expected = source.module(images)
    torch.testing.assert_close(torch.from_numpy(FORMATS["stablehlo"].open(path).logits(images)), expected)


def test_an_operator_it_lacks_is_named_with_its_layer_and_the_way_round(little_data: Dataset, tmp_path: Path) -> None:
    source = prepare(load_model(Pooled(sort=True).eval()), little_data, Recipe())
    with pytest.raises(FormatError, match=r"no operator sort, .* in layer 'head': .* export as onnx"):
        write(FORMATS["stablehlo"], source, tmp_path)
