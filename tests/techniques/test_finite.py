"""Weights that are not numbers are named by whatever technique is asked to change them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import workbench as wb
from workbench.techniques import TECHNIQUES

SHAPE = (1, 6, 6)
EXAMPLES = {
    example: technique.name for technique in TECHNIQUES.values() for example in technique.examples[:1]
} | {
    f"- quantize: {{{settings}}}": "quantize"
    for settings in ("format: fp16", "format: kmeans", "format: binary", "bits: 4, range: mse", "rounding: gptq")
} | {
    f"- prune: {{{settings}}}": "prune"
    for settings in ("criterion: obs", "criterion: random", "granularity: filter", "granularity: layer", "threshold: 1")
} | {f"- share: {{method: {method}}}": "share" for method in ("product", "hash")}  # fmt: skip


@pytest.fixture(scope="module")
def data() -> wb.Dataset:
    generator = np.random.default_rng(0)
    return wb.load_dataset((generator.random((64, 6, 6), np.float32), np.arange(64) % 10))


def damaged(value: float) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 16), nn.ReLU(), nn.Linear(16, 10)).eval()
    with torch.no_grad():
        model[1].weight[3, 4] = value
    return model


@pytest.mark.parametrize("recipe", EXAMPLES)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_they_are_refused_by_name(recipe: str, value: float, data: wb.Dataset):
    words = "weights '1\\.weight' hold NaN or infinite values, which .* can make nothing of: mend the model"
    with pytest.raises(wb.WorkbenchError, match=words):
        wb.compress(damaged(value), recipe, data)


@pytest.mark.parametrize(
    "recipe",
    ['- quantize: {bits: 4, layers: ["3"]}', '- prune: {ratio: 0.5, overrides: {"1": {ratio: 0, scope: layer}}}',
     '- share: {bits: 4, overrides: {"1": {bits: 32}}}'],
)  # fmt: skip
def test_a_layer_that_stays_as_it_is_may_have_some(recipe: str):
    ours = wb.compress(damaged(float("nan")), recipe, image_shape=SHAPE)
    assert torch.equal(ours.tensors["1.weight"].isnan(), damaged(float("nan"))[1].weight.isnan())
    assert ours.tensors["3.weight"].unique().numel() < 160
