"""Smoothing leaves what the model computes, and spreads inputs and weights as the paper says."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import workbench as wb
from workbench.models.zoo import ARCHITECTURES
from workbench.techniques.context import Context

SHAPE = (1, 28, 28)


@pytest.fixture
def module() -> nn.Module:
    """A perceptron with three hidden neurons whose outputs reach far."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 24), nn.ReLU(), nn.Linear(24, 10))
    model[1].weight.data[:3] *= 60
    return model.eval()


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_the_model_computes_the_same(module: nn.Module, strength: float) -> None:
    ours = wb.compress(module, f"- smooth: {{strength: {strength}}}", "fashion_mnist")
    images = torch.randn(4, *SHAPE)
    with torch.inference_mode():
        torch.testing.assert_close(ours.module(images), module(images), rtol=1e-4, atol=1e-4)
    assert not torch.equal(ours.tensors["3.weight"], module[3].weight)


def test_factors_are_those_of_the_paper(module: nn.Module) -> None:
    data = wb.load_dataset("fashion_mnist")
    ours = wb.compress(module, "- smooth: {strength: 0.7, images: 64, layers: ['3']}", data)
    with torch.inference_mode():
        inputs = module[:3](data.normalization(Context(data["calibration"]).mixed_images(64)))
    reach, columns = inputs.abs().amax(0), module[3].weight.detach().abs().amax(0)
    factors = torch.where(reach > 0, reach**0.7 / columns**0.3, 1)
    torch.testing.assert_close(ours.tensors["3.weight"], module[3].weight.detach() * factors)
    torch.testing.assert_close(ours.tensors["1.weight"], module[1].weight.detach() / factors[:, None])
    torch.testing.assert_close(ours.tensors["1.bias"], module[1].bias.detach() / factors)


def test_outliers_cost_less_when_inputs_are_quantized(module: nn.Module) -> None:
    data = wb.load_dataset("fashion_mnist")
    images = data.normalization(data["test"].images[:200])
    errors = []
    with torch.inference_mode():
        for before in ("", "- smooth\n"):
            found = wb.compress(module, f"{before}- quantize: {{activations: {{bits: 4}}, layers: ['3']}}", data)
            errors.append(float((found.module(images) - module(images)).square().mean()))
    assert errors[1] < 0.8 * errors[0]


def test_bad_orders_and_missing_data_say_so(module: nn.Module) -> None:
    with pytest.raises(wb.WorkbenchError, match="put smooth before quantize"):
        wb.compress(module, "- quantize: {bits: 8}\n- smooth", "fashion_mnist")
    with pytest.raises(wb.WorkbenchError, match="Smoothing needs calibration data"):
        wb.compress(module, "- smooth", image_shape=SHAPE)
    ours = wb.compress(ARCHITECTURES["resnet20"](), "- smooth", "fashion_mnist")
    assert ours.notes == ("Nothing to smooth: no Linear layer's inputs come from one layer by a ReLU or less alone.",)
