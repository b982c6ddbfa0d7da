"""Attention heads are removed whole, where a model's code allows it."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import workbench as wb
from workbench.models.attention import trace_heads
from workbench.models.layers import layers_of

SHAPE = (1, 14, 14)
HEADS, FEATURES = 4, 6
WIDTH = HEADS * FEATURES


class Attention(nn.Module):
    """Heads follow from the features; queries, keys and values from one Linear or from three."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.fused = fused
        if fused:
            self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        else:
            self.q_proj, self.k_proj, self.v_proj = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.qkv(x).chunk(3, -1) if self.fused else (self.q_proj(x), self.k_proj(x), self.v_proj(x))
        q, k, v = (part.unflatten(-1, (-1, FEATURES)).transpose(1, 2) for part in parts)
        mixed = (q @ k.transpose(-2, -1) * FEATURES**-0.5).softmax(-1) @ v
        return x + self.out(mixed.transpose(1, 2).flatten(2))


class Transformer(nn.Module):
    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, WIDTH, 7, stride=7)
        self.blocks = nn.Sequential(Attention(fused), Attention(fused))
        self.fc = nn.Linear(WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.blocks(self.patch(x).flatten(2).transpose(1, 2)).mean(1))


@pytest.fixture(params=[True, False], ids=["fused", "apart"])
def module(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return Transformer(request.param).eval()


def images() -> Tensor:
    return torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0))


def test_the_number_of_features_of_a_head_is_found(module: nn.Module) -> None:
    graph = trace_heads(module, SHAPE)
    assert [group.size for group in graph.groups] == [HEADS, HEADS]


def test_the_weakest_heads_are_removed_and_the_others_answer_as_before(module: nn.Module, tmp_path: Path) -> None:
    ours = wb.compress(module, "- prune: {granularity: head, ratio: 0.5, scope: layer}", image_shape=SHAPE)
    masked = copy.deepcopy(module)
    for block in masked.blocks:
        if block.fused:
            rows = block.qkv.weight.detach().view(3, HEADS, -1)
        else:
            rows = torch.stack([part.weight for part in (block.q_proj, block.k_proj, block.v_proj)]).detach()
            rows = rows.view(3, HEADS, -1)
        weakest = rows.abs().sum((0, 2)).argsort()[:2]
        block.out.weight.data.view(WIDTH, HEADS, FEATURES)[:, weakest] = 0
    with torch.no_grad():
        torch.testing.assert_close(ours.module(images()), masked(images()), rtol=1e-4, atol=1e-5)
    counted = {layer.name: layer.macs for layer in layers_of(ours.module, SHAPE)}
    assert {layer.name: layer.macs for layer in ours.layers} == counted
    assert any("4 of 8 prunable attention heads removed" in note for note in ours.notes)
    path = ours.save(tmp_path / "heads.wbz")
    assert path.stat().st_size == ours.nbytes
    with torch.no_grad():
        assert torch.equal(wb.load_compressed(path, model=module).module(images()), ours.module(images()))


def test_one_head_of_each_attention_stays(module: nn.Module) -> None:
    ours = wb.compress(module, "- prune: {granularity: head, ratio: 0.99}", image_shape=SHAPE)
    assert ours.module.blocks[0].out.in_features == ours.module.blocks[1].out.in_features == FEATURES
    assert ours.module(images()).isfinite().all()


def test_other_attention_is_refused_with_the_reason() -> None:
    class Fixed(Transformer):
        def __init__(self) -> None:
            super().__init__(True)
            self.blocks = nn.Sequential(nn.TransformerEncoderLayer(WIDTH, HEADS, 32, batch_first=True))

    ours = wb.compress(Fixed().eval(), "- prune: {granularity: head}", image_shape=SHAPE)
    assert not ours.edits
    assert any("No attention heads could be removed (blocks.0.self_attn: nn.Multihead" in note for note in ours.notes)
    ours = wb.compress("lenet5", "- prune: {granularity: head}")
    assert any("No attention heads could be removed (no attention" in note for note in ours.notes)
