"""Units of weights: N:M patterns, blocks, rows and kernels, against brute force."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

import workbench as wb
from workbench.compressed import CompressedModel
from workbench.errors import WorkbenchError

SHAPE = (4, 6, 6)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 10, 3)
        self.up = nn.ConvTranspose2d(10, 8, 3)
        self.fc = nn.Linear(8, 7)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.up(torch.relu(self.conv(x)))).mean((2, 3)))


@pytest.fixture(scope="module")
def module() -> nn.Module:
    torch.manual_seed(0)
    return Small().eval()


def pruned(module: nn.Module, text: str) -> CompressedModel:
    return wb.compress(module, text, image_shape=SHAPE)


def matrix(name: str, tensor: Tensor) -> Tensor:
    """One row an output."""
    return (tensor.transpose(0, 1) if name.startswith("up") else tensor).flatten(1)


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (1, 2), (3, 4)])
def test_n_of_m_keeps_the_largest_of_every_m_input_channels(module: nn.Module, n: int, m: int) -> None:
    ours = pruned(module, f"- prune: {{granularity: 'n:m', n: {n}, m: {m}, layers: [conv, fc]}}")
    for name in ("conv", "fc"):
        weight, got = module.get_submodule(name).weight.detach(), ours.tensors[f"{name}.weight"]
        places = [range(size) for size in (weight.shape[0], weight.shape[1] // m, *weight.shape[2:])]
        for out, group, *position in itertools.product(*places):
            channels = range(group * m, (group + 1) * m)
            largest = sorted(channels, key=lambda channel: -abs(float(weight[(out, channel, *position)])))[:n]
            for channel in channels:
                place = (out, channel, *position)
                assert got[place] == (weight[place] if channel in largest else 0)
    assert {layer.name: layer.sparsity for layer in ours.layers}["fc"] == 1 - n / m


def test_n_of_m_leaves_what_m_does_not_divide_and_refuses_when_that_is_all(module: nn.Module) -> None:
    ours = pruned(module, "- prune: {granularity: 'n:m', n: 2, m: 8}")
    assert any("Left as they are: 'conv', 'up'; 8 does not divide" in note for note in ours.notes)
    assert int((ours.tensors["fc.weight"] == 0).sum()) == 7 * 6
    with pytest.raises(WorkbenchError, match="needs input channels that 8 divides, and layer 'conv' has 4"):
        pruned(module, "- prune: {granularity: 'n:m', n: 2, m: 8, layers: [conv]}")


@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize(("rows", "columns"), [(4, 1), (1, 4), (4, 4), (3, 5), (64, 1)])
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_blocks_go_in_the_order_of_their_mean_magnitude(
    module: nn.Module, rows: int, columns: int, norm: str, scope: str
) -> None:
    settings = f"granularity: block, block_rows: {rows}, block_columns: {columns}, norm: {norm}, scope: {scope}"
    ours = pruned(module, f"- prune: {{{settings}, ratio: 0.5}}")
    blocks = {}
    for name in ("conv", "up", "fc"):
        weight = matrix(name, module.get_submodule(name).weight.detach())
        got = matrix(name, ours.tensors[f"{name}.weight"])
        for top, left in itertools.product(range(0, weight.shape[0], rows), range(0, weight.shape[1], columns)):
            inside = (slice(top, top + rows), slice(left, left + columns))
            block = weight[inside]
            score = float(block.abs().mean()) if norm == "l1" else float(block.square().mean().sqrt())
            gone = bool((got[inside] == 0).all())
            assert gone or torch.equal(got[inside], block)
            blocks[name, top, left] = (score, gone)
    pools = [[*blocks.values()]]
    if scope == "layer":
        pools = [[value for key, value in blocks.items() if key[0] == name] for name in ("conv", "up", "fc")]
    for pool in pools:
        removed = [score for score, gone in pool if gone]
        assert len(removed) == round(0.5 * len(pool))
        assert not removed or max(removed) <= min(score for score, gone in pool if not gone) + 1e-6


@pytest.mark.parametrize("granularity", ["row", "kernel"])
def test_rows_and_kernels_go_whole(module: nn.Module, granularity: str) -> None:
    ours = pruned(module, f"- prune: {{granularity: {granularity}, ratio: 0.5, scope: layer, layers: [conv, up]}}")
    for name in ("conv", "up"):
        weight, got = module.get_submodule(name).weight.detach(), ours.tensors[f"{name}.weight"]
        if name == "up":
            weight, got = weight.transpose(0, 1), got.transpose(0, 1)
        start = 1 if granularity == "row" else 2
        scores, zeros = weight.abs().flatten(start).sum(-1).flatten(), (got == 0).flatten(start).all(-1).flatten()
        assert int(zeros.sum()) == round(0.5 * len(scores))
        assert set(zeros.nonzero().flatten().tolist()) == set(scores.argsort()[: len(scores) // 2].tolist())
        assert int((got == 0).sum()) == int(zeros.sum()) * math.prod(weight.shape[start:])


def test_kernel_pruning_leaves_linear_layers_and_says_so(module: nn.Module) -> None:
    ours = pruned(module, "- prune: {granularity: kernel, ratio: 0.5}")
    assert torch.equal(ours.tensors["fc.weight"], module.fc.weight)
    assert any("'fc'; only convolutions have kernels" in note for note in ours.notes)


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_blocks_reach_a_share_of_macs(module: nn.Module, share: float) -> None:
    ours = pruned(module, f"- prune: {{granularity: block, macs: {share}}}")
    dense = sum(layer.macs for layer in ours.layers)
    left = sum(layer.macs * (1 - layer.sparsity) for layer in ours.layers)
    assert (share - 0.02) * dense < left <= share * dense


def test_pattern_keeps_the_grid_of_a_quantized_weight_and_reloads(module: nn.Module, tmp_path: object) -> None:
    ours = pruned(
        module, "- quantize: {bits: 4}\n- prune: {granularity: 'n:m'}\n- prune: {granularity: row, ratio: 0.2}"
    )
    assert ours.codes["conv.weight"].bits == 4
    path = ours.save(f"{tmp_path}/small.wbz")
    loaded = wb.load_compressed(path, model=module)
    assert path.stat().st_size == ours.nbytes
    images = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(loaded.module(images), ours.module(images))
    assert ours.module(images).isfinite().all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("granularity: 'n:m', n: 4, m: 4", "n must be less than m, not 4:4"),
        ("granularity: 'n:m', macs: 0.5", "leave out threshold and macs"),
        ("granularity: block, block_rows: 0", "block_rows is 0"),
    ],
)
def test_patterns_that_cannot_be_are_refused(settings: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        wb.Recipe.parse(f"- prune: {{{settings}}}")
