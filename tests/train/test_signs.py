"""Binary and ternary weights learn by the papers' gradients, and are stored as what ran: signs and scales."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.compression import compress
from workbench.data.dataset import Dataset
from workbench.models.model import Model
from workbench.recipe import Recipe
from workbench.techniques.storage import TableCodes, TernaryCodes
from workbench.train.constraints.signs import Binary, Ternary
from workbench.train.jobs.job import train
from workbench.train.jobs.process import Within

FAST: dict[str, Any] = {"epochs": 3, "batch": 16, "augment": "none", "learning_rate": 0.05}
WEIGHT = torch.tensor([[0.9, -0.8, 0.1, -0.05], [0.4, 1.2, -0.02, -0.7]])
GRADIENT = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]])


def ternary_of(scale: list[float], axis: int | None) -> TernaryCodes:
    codes = torch.ones(2, 4, dtype=torch.uint8)
    return TernaryCodes(codes, torch.tensor(scale), torch.ones(len(scale)), axis, 2)


def test_trained_ternary_quantization_has_the_gradients_of_the_paper() -> None:
    """Zhu et al. 2017, equation 7: a scale's is the sum over its weights; equation 8: a weight's takes its scale."""
    part = Ternary(ternary_of([0.5], None), torch.ones(2, 4, dtype=torch.bool), True, WEIGHT)
    with torch.no_grad():
        part.scales.copy_(torch.tensor([0.8, 0.6]))
    threshold = 0.7 * WEIGHT.abs().mean()
    positive, negative = threshold < WEIGHT, -threshold > WEIGHT
    values = part()
    assert torch.equal(values, torch.where(positive, 0.8, torch.where(negative, -0.6, 0.0)))
    (values * GRADIENT).sum().backward()
    assert part.scales.grad is not None
    sums = torch.stack([GRADIENT[positive].sum(), -GRADIENT[negative].sum()])
    torch.testing.assert_close(part.scales.grad, sums / math.sqrt(8))
    wanted = GRADIENT * torch.where(positive, 0.8, torch.where(negative, 0.6, 1.0))
    assert part.values.grad is not None
    torch.testing.assert_close(part.values.grad, wanted)


def test_one_scale_is_the_mean_beyond_the_threshold_of_each_row() -> None:
    part = Ternary(ternary_of([0.5, 0.5], 0), torch.ones(2, 4, dtype=torch.bool), False, WEIGHT)
    for row, values in zip(WEIGHT, part(), strict=True):
        beyond = row.abs() > 0.7 * row.abs().mean()
        torch.testing.assert_close(values, row.sign() * beyond * row[beyond].abs().mean())


def test_signs_have_the_gradient_of_their_mean_and_of_passing_straight_through() -> None:
    """Rastegari et al. 2016: d/dw of mean|w| * sign(w), the sign straight through within ±1 alone."""
    storage = TableCodes(torch.zeros(2, 4, dtype=torch.uint8), "sign", torch.ones(2), 0, 1)
    part = Binary(storage, torch.ones(2, 4, dtype=torch.bool), WEIGHT)
    values = part()
    scale = WEIGHT.abs().mean(1, keepdim=True)
    torch.testing.assert_close(values, WEIGHT.sign() * scale)
    (values * GRADIENT).sum().backward()
    of_mean = (GRADIENT * WEIGHT.sign()).sum(1, keepdim=True) * WEIGHT.sign() / 4
    wanted = GRADIENT * scale * (WEIGHT.abs() <= 1) + of_mean
    assert part.values.grad is not None
    torch.testing.assert_close(part.values.grad, wanted)


@pytest.mark.parametrize(
    ("form", "more", "levels"),
    [("ternary", {"two_scales": True}, 3), pytest.param("ternary", {}, 3, marks=pytest.mark.slow), ("binary", {}, 2)],
)
def test_what_was_trained_is_stored_as_signs_and_scales(
    form: str, more: dict[str, Any], levels: int, small_model: Model, small_data: Dataset, tmp_path: Path
) -> None:
    quantize: dict[str, Any] = {"quantize": {"format": form, "per": "tensor", "layers": ["fc"]}}
    before = compress(small_model, Recipe.parse([quantize]), small_data)
    recipe = Recipe.parse([quantize, {"finetune": {**FAST, **more}}])
    after = train(small_model, small_data, recipe, place=Within()).result().after.value
    compressed = compress(small_model, recipe, small_data)
    weight = compressed.tensors["fc.weight"]
    assert len(weight.unique()) == levels
    assert not torch.equal(weight.sign(), before.tensors["fc.weight"].sign())
    if more:
        low, _, high = weight.unique().tolist()
        assert -low != high
        stored = compressed.stored["fc.weight"]
        assert isinstance(stored, TableCodes)
        np.testing.assert_array_equal(stored.table, np.float32([low, 0, high]))
    # two bits a weight or fewer, and the scales
    assert compressed.layers[1].bytes <= 3 * 128 / 4 + 120
    compressed.save(tmp_path / "signs.wbz")
    again = wb.load_compressed(tmp_path / "signs.wbz", model=small_model)
    assert torch.equal(again.module.state_dict()["fc.weight"], weight)
    assert after > 0.9
