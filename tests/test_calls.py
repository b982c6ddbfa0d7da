"""Layers that are called by name are calibrated, quantized and pruned as those called by place."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import workbench as wb
from workbench.calls import changed, entering


class ByName(nn.Module):
    """Calls its layers by name or by place."""

    def __init__(self, by_name: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.by_name = by_name
        self.conv, self.norm, self.fc = nn.Conv2d(1, 4, 4, stride=4), nn.BatchNorm2d(4), nn.Linear(28, 16)
        self.attention, self.out = nn.MultiheadAttention(16, 2, batch_first=True), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        if not self.by_name:
            x = self.fc(self.norm(self.conv(x)).relu().flatten(2).unflatten(2, (7, 7)).movedim(1, 2).flatten(2))
            return self.out(self.attention(x, x, x, need_weights=False)[0].mean(1).relu())
        x = self.norm(input=self.conv(input=x)).relu().flatten(2).unflatten(2, (7, 7)).movedim(1, 2).flatten(2)
        x = self.fc(input=x)
        x = self.attention(need_weights=False, value=x, query=x, key=x)[0]
        return self.out(input=x.mean(1).relu())


@pytest.mark.parametrize("text", [
    "- quantize: {bits: 8, activations: {bits: 4}}",
    "- quantize: {bits: 8, activations: {bits: 4, mode: dynamic}}",
    "- quantize: {bits: 3, rounding: gptq, images: 32}",
    "- prune: {ratio: 0.5, criterion: wanda}",
    "- prune: {ratio: 0.5, criterion: obs}",
    "- smooth: {images: 32}",
    "- factorize: {size: 0.5, weighted: true, images: 32}",
    "- quantize: {bits: 2}\n- correct_bias: {images: 32, guard: false}",
])  # fmt: skip
def test_a_call_by_name_is_seen_as_one_by_place(text: str) -> None:
    data = wb.load_dataset("fashion_mnist")
    ours, theirs = (wb.compress(ByName(by_name).eval(), text, data) for by_name in (True, False))
    assert ours.tensors.keys() == theirs.tensors.keys()
    assert all(torch.equal(value, theirs.tensors[name]) for name, value in ours.tensors.items())
    assert ours.edits == theirs.edits
    images = torch.rand(4, 1, 28, 28)
    with torch.inference_mode():
        assert torch.equal(ours.module(images), theirs.module(images))
        if "activations" in text:
            plain = wb.compress(ByName(True).eval(), "- quantize: {bits: 8}", data).module(images)
            assert not torch.allclose(ours.module(images), plain, atol=1e-5)


def test_one_tensor_in_several_places_stays_one_and_names_of_ones_own_are_found() -> None:
    x, layer = torch.zeros(2, 3, 8), nn.MultiheadAttention(8, 2)
    args, kwargs = changed(layer, (x,), {"value": x, "key": x, "need_weights": False}, lambda given: given + 1)
    assert args[0] is kwargs["key"] is kwargs["value"]
    assert float(args[0].mean()) == 1
    assert kwargs["need_weights"] is False
    assert entering(nn.Linear(8, 2), (), {"tokens": x})[0] is x
