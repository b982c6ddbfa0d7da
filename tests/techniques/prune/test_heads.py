"""Attention heads are removed whole, where a model's code allows it."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import workbench as wb
from workbench.evaluation import Evaluator
from workbench.latency import LatencyEstimator
from workbench.models.attention import trace_heads
from workbench.models.fewer_heads import keep_heads
from workbench.models.layers import layers_of
from workbench.run.onnx_export import export_graph
from workbench.run.runner import OnnxRunner
from workbench.subject import Subject

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


class Encoder(nn.Module):
    """PyTorch's own attention, alone and in its encoder layer, batch first or not."""

    def __init__(self, batch_first: bool, **options: object) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.patch = nn.Conv2d(1, WIDTH, 7, stride=7)
        self.layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 32, batch_first=batch_first, norm_first=True)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=batch_first, **options)
        self.fc = nn.Linear(WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = self.layer(x if self.batch_first else x.transpose(0, 1))
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.fc(x.mean(1 if self.batch_first else 0))


def attentions(module: nn.Module) -> list[nn.MultiheadAttention]:
    return [module.layer.self_attn, module.attention]


@pytest.mark.parametrize("options", [{}, {"bias": False}])
@pytest.mark.parametrize("batch_first", [True, False])
def test_heads_of_pytorchs_attention_are_removed(batch_first: bool, options: dict[str, bool], tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Encoder(batch_first, **options).eval()
    ours = wb.compress(module, "- prune: {granularity: head, ratio: 0.5, scope: layer}", image_shape=SHAPE)
    masked = copy.deepcopy(module)
    for attention in attentions(masked):
        rows = attention.in_proj_weight.detach().view(3, HEADS, -1)
        attention.out_proj.weight.data.view(WIDTH, HEADS, FEATURES)[:, rows.abs().sum((0, 2)).argsort()[:2]] = 0
    with torch.no_grad():
        torch.testing.assert_close(ours.module(images()), masked(images()), rtol=1e-4, atol=1e-5)
        exported = export_graph(ours.module, SHAPE).build(ours.module.state_dict())
        answers = torch.from_numpy(OnnxRunner(exported).logits(images()))
        torch.testing.assert_close(answers, ours.module(images()), rtol=1e-4, atol=1e-5)
    counted = {layer.name: layer.macs for layer in layers_of(ours.module, SHAPE)}
    assert {layer.name: layer.macs for layer in ours.layers} == counted
    assert all(attention.in_proj_weight.shape == (3 * WIDTH // 2, WIDTH) for attention in attentions(ours.module))
    path = ours.save(tmp_path / "heads.wbz")
    assert path.stat().st_size == ours.nbytes
    with torch.no_grad():
        assert torch.equal(wb.load_compressed(path, model=module).module(images()), ours.module(images()))


def test_a_model_without_some_of_pytorchs_heads_has_a_file_to_time() -> None:
    torch.manual_seed(0)
    model = wb.load_model(Encoder(True).eval())
    data = wb.load_dataset((torch.rand(64, *SHAPE).numpy(), (torch.arange(64) % 10).numpy()))
    subject = Subject.of(model, SHAPE)
    evaluator = Evaluator(subject, data["test"], data.normalization)
    ours = wb.compress(model, "- prune: {granularity: head, ratio: 0.5, scope: layer}", data)
    assert evaluator.confirm(ours)
    assert evaluator.runner(ours).runtime == "onnxruntime"
    estimator = LatencyEstimator(subject, evaluator.graphs, data, data.normalization)
    answers = OnnxRunner(estimator.file(ours)).logits(images())
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(answers), ours.module(images()), rtol=1e-4, atol=1e-5)


def test_heads_can_be_removed_twice_and_quantized() -> None:
    torch.manual_seed(0)
    steps = [f"- prune: {{granularity: head, ratio: {ratio}, scope: layer}}" for ratio in (0.25, 0.34)]
    text = "\n".join([*steps, "- quantize: {bits: 8}"])
    ours = wb.compress(Encoder(True).eval(), text, image_shape=SHAPE)
    assert [attention.num_heads for attention in attentions(ours.module)] == [2, 2]
    assert ours.module(images()).isfinite().all()
    assert ours.summarize_channels("attention").channels == 3 * WIDTH


def test_masks_and_weights_are_those_of_the_heads_that_are_left() -> None:
    torch.manual_seed(0)
    whole = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True).eval()
    heads = torch.tensor([1, 3])
    fewer = copy.deepcopy(whole)
    rows = (torch.arange(3 * WIDTH).view(3, HEADS, FEATURES)[:, heads]).flatten()
    keep_heads(fewer, rows)
    whole.out_proj.weight.data.view(WIDTH, HEADS, FEATURES)[:, [0, 2]] = 0
    query, key = torch.randn(2, 5, WIDTH), torch.randn(2, 7, WIDTH)
    each = torch.rand(2 * HEADS, 5, 7) < 0.3
    each[..., 0] = False
    padding = torch.zeros(2, 7, dtype=torch.bool)
    padding[1, 5:] = True
    for attn_mask in (None, each[0], each, torch.randn(5, 7)):
        options = {"attn_mask": attn_mask, "average_attn_weights": False}
        if attn_mask is None or attn_mask.dtype == torch.bool:
            options["key_padding_mask"] = padding
        ours, weights = fewer(query, key, key, **options)
        theirs, expected = whole(query, key, key, **options)
        torch.testing.assert_close(ours, theirs)
        torch.testing.assert_close(weights, expected[:, heads])
    ours, weights = fewer(query[0], key[0], key[0])
    torch.testing.assert_close(ours, whole(query[0], key[0], key[0])[0])
    assert weights.shape == (5, 7)


def test_other_attention_is_refused_with_the_reason() -> None:
    class Fixed(Transformer):
        """The number of heads is written into the code."""

        def __init__(self) -> None:
            super().__init__(True)
            self.blocks = nn.Sequential(nn.MultiheadAttention(WIDTH, HEADS, add_zero_attn=True), Counted())

        def forward(self, x: Tensor) -> Tensor:
            x = self.patch(x).flatten(2).transpose(1, 2)
            return self.fc(self.blocks[1](self.blocks[0](x, x, x)[0]).mean(1))

    class Counted(Attention):
        def __init__(self) -> None:
            super().__init__(True)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = (
                part.reshape(*part.shape[:2], HEADS, FEATURES).transpose(1, 2) for part in self.qkv(x).chunk(3, -1)
            )
            return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    ours = wb.compress(Fixed().eval(), "- prune: {granularity: head}", image_shape=SHAPE)
    assert not ours.edits
    note = next(note for note in ours.notes if "No attention heads could be removed" in note)
    assert "blocks.1: its code does not let the number of heads follow" in note
    assert "blocks.0: attention with keys of another width" in note
    ours = wb.compress("lenet5", "- prune: {granularity: head}")
    assert any("No attention heads could be removed (no attention" in note for note in ours.notes)
