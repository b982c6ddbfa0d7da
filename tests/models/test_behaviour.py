"""Models that answer differently have different hashes, whatever their layers and weights have in common."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import workbench as wb
from workbench.models.behaviour import behaviour_of
from workbench.subject import model_hash


class Net(nn.Module):
    """One Linear and what is done with it."""

    factor = 1.0

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(4, 4)
        self.register_buffer("shift", torch.zeros(4), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x) * self.factor + self.shift


class Squared(Net):
    """Has another function's text."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x).square()


Squared.__name__ = "Net"


def changed(attribute: str, value: object) -> Net:
    net = Net()
    setattr(net, attribute, value)
    return net


def attention(heads: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(2), nn.MultiheadAttention(8, heads))


@pytest.mark.parametrize("other", [
    lambda: Squared(), lambda: changed("factor", 2.0), lambda: changed("shift", torch.ones(4)),
    lambda: changed("crop", (1, 2)),
])  # fmt: skip
def test_code_attributes_and_hidden_buffers_tell_models_apart(other: Callable[[], nn.Module]) -> None:
    one, two = Net(), other()
    assert repr(one) == repr(two)
    assert all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())
    assert model_hash(one) != model_hash(two)
    assert model_hash(one) == model_hash(Net())
    assert model_hash(two) == model_hash(wb.load_model(two).module)


def test_settings_that_a_layer_of_torch_does_not_tell_count() -> None:
    assert model_hash(attention(2)) != model_hash(attention(4))
    assert model_hash(attention(2)) == model_hash(attention(2))


def test_where_no_text_is_kept_what_it_compiled_to_counts() -> None:
    program = """
from torch import nn
from workbench.subject import model_hash
hashes = []
for power in (1, 1, 2):
    class Net(nn.Module):
        exec(f"def forward(self, x): return x ** {power}")
    hashes.append(model_hash(Net()))
print(hashes[0] == hashes[1] != hashes[2])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


@pytest.mark.parametrize("name", ["lenet5", "mobilenetv2", "vit", "lstm"])
def test_models_of_the_zoo_keep_their_hash(name: str) -> None:
    module = wb.load_model(name).module
    assert not list(behaviour_of(module))
    digest = hashlib.sha256(repr(module).encode())
    for key, tensor in module.state_dict().items():
        digest.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    assert model_hash(module) == digest.hexdigest()[:16]


def test_plain_chains_of_layers_keep_their_hash() -> None:
    assert not list(behaviour_of(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))))
