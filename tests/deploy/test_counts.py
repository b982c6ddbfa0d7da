"""Graphs that hold counts of channels as numbers: pruned models run in PyTorch, and their files are written anew."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import workbench as wb
from workbench.data.dataset import Dataset
from workbench.deploy.onnx_formats import OnnxFloat
from workbench.deploy.writing import source_for
from workbench.recipe import Recipe
from workbench.run.runner import OnnxRunner


class Halved(nn.Module):
    """The halves of what a convolution gives; the pool behind the border keeps PyTorch from tracing it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 32, 3, padding=1, padding_mode="reflect")
        self.next = nn.Conv2d(16, 16, 3, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.conv(x).chunk(2, 1)
        logits: Tensor = self.fc(self.pool(self.next(value * gate.sigmoid())).flatten(1))
        return logits


@pytest.mark.parametrize("before", ["", "- factorize: {size: 0.6}\n"])
def test_a_pruned_model_is_judged_and_its_file_has_the_counts_that_are_left(little_data: Dataset, before: str) -> None:
    torch.manual_seed(0)
    recipe = Recipe.parse(f"{before}- prune: {{ratio: 0.5, granularity: filter}}")
    with wb.Session(Halved().eval(), little_data) as session:
        assert session.measure(recipe).accuracy is not None
        source = source_for(session, recipe)
    assert source.normalization is not None
    images = source.normalization(little_data["test"].images[:8])
    model = OnnxFloat().model(source)
    with torch.inference_mode():
        expected = source.compressed.fresh_module()(images).numpy()
    np.testing.assert_allclose(OnnxRunner(model, 1).logits(images), expected, atol=1e-4)
