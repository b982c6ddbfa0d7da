"""The columns of a layer's input give its output when its weights multiply them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from workbench.run.moments import columns, has_columns, input_moments

LAYERS = (
    nn.Conv2d(4, 6, 3),
    nn.Conv2d(4, 6, (3, 1), stride=(2, 1), padding=(1, 0), dilation=(2, 1)),
    nn.Conv2d(4, 4, 3, padding="same", groups=4),
    nn.Conv2d(4, 6, 3, padding=1, groups=2, padding_mode="reflect"),
    nn.Conv1d(4, 6, 5, padding=2, stride=2),
    nn.Linear(8, 3),
)


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_weights_times_columns_are_the_output(layer: nn.Module) -> None:
    torch.manual_seed(0)
    shape = {nn.Linear: (5, 7, 8), nn.Conv1d: (5, 4, 9), nn.Conv2d: (5, 4, 9, 8)}[type(layer)]
    values = torch.randn(shape)
    found = columns(layer, values)
    weight = layer.weight.flatten(1).unflatten(0, (len(found), -1))
    product = torch.cat(list(weight @ found)) + layer.bias[:, None]
    output = layer(values)
    expected = output.flatten(0, -2).T if isinstance(layer, nn.Linear) else output.transpose(0, 1).flatten(1)
    torch.testing.assert_close(product, expected, rtol=1e-4, atol=1e-5)
    assert has_columns(layer)


def test_moments_are_those_of_two_versions_of_a_model() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, 5), nn.ReLU(), nn.Linear(5, 2)).eval()
    other = nn.Sequential(nn.Flatten(), nn.Linear(9, 5), nn.ReLU(), nn.Linear(5, 2)).eval()
    images = torch.rand(70, 1, 3, 3)
    found = input_moments(model, other, "3", images, lambda batch: batch, lambda: None)
    x, y = model[:3](images), other[:3](images)
    torch.testing.assert_close(found.second[0], y.T @ y / 70)
    torch.testing.assert_close(found.cross[0], x.T @ y / 70)
    torch.testing.assert_close(found.mean_reference[0], x.mean(0))
    torch.testing.assert_close(found.mean[0], y.mean(0))


def test_a_layer_that_is_never_called_has_none() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, 5))
    model.spare = nn.Linear(3, 3)
    model.forward = lambda x: model[1](model[0](x))
    assert input_moments(model, model, "spare", torch.rand(4, 1, 3, 3), lambda batch: batch, lambda: None) is None
