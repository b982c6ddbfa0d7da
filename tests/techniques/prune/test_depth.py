"""Depth pruning: the blocks that cost least go, with their tensors; the file is the smaller by them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import workbench as wb
from workbench.compressed import CompressedModel
from workbench.errors import WorkbenchError
from workbench.evaluation import Evaluator
from workbench.recipe import RecipeError
from workbench.subject import Subject


class Residual(nn.Module):
    """Four residual blocks of rising weight, so that the first matters least, and an LSTM of two levels."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Conv2d(1, 1, 3, padding=1) for _ in range(4))
        for place, block in enumerate(self.blocks):
            block.weight.data.mul_(0.2 + place)  # type: ignore[union-attr, operator]
        self.rows = nn.LSTM(8, 6, num_layers=2, batch_first=True)
        self.fc = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + block(x)
        logits: Tensor = self.fc(self.rows(x.flatten(1, 2))[0][:, -1])
        return logits


@pytest.fixture(scope="module")
def module() -> nn.Module:
    torch.manual_seed(0)
    return Residual().eval()


@pytest.fixture(scope="module")
def data() -> wb.Dataset:
    images = torch.rand(96, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return wb.load_dataset((images.numpy(), (torch.arange(96) % 3).numpy()))


def pruned(module: nn.Module, settings: str, data: wb.Dataset | None, more: str = "") -> CompressedModel:
    return wb.compress(module, f"- prune: {{granularity: layer, {settings}}}{more}", data, image_shape=(1, 8, 8))


def removed(compressed: CompressedModel) -> list[str]:
    return [layer.name for layer in compressed.layers if layer.params == 0]


def test_the_drop_is_how_much_the_loss_grows_without_the_block(module: nn.Module, data: wb.Dataset):
    images = data.normalization(data["calibration"].images)
    labels = data["calibration"].labels
    losses = {}
    with torch.no_grad():
        dense = float(F.cross_entropy(module(images), labels))
        for place in range(4):
            weight = module.blocks[place].weight  # type: ignore[index, union-attr]
            bias = module.blocks[place].bias  # type: ignore[index, union-attr]
            before = weight.data, bias.data
            weight.data, bias.data = torch.zeros_like(weight), torch.zeros_like(bias)
            losses[f"blocks.{place}"] = float(F.cross_entropy(module(images), labels)) - dense
            weight.data, bias.data = before
    ranked = sorted(losses, key=lambda name: losses[name])
    for count in (1, 2, 3):
        some = pruned(module, f"ratio: {count / 4}, layers: [blocks.*]", data)
        assert removed(some) == sorted(ranked[:count])
    middle = (losses[ranked[1]] + losses[ranked[2]]) / 2
    assert removed(pruned(module, f"threshold: {max(middle, 0)}, layers: [blocks.*]", data)) == sorted(
        name for name in ranked if losses[name] <= max(middle, 0)
    )


@pytest.mark.parametrize("criterion", ["taylor", "fisher", "random"])
def test_other_criteria_rank_blocks_too(module: nn.Module, data: wb.Dataset, criterion: str):
    some = pruned(module, f"ratio: 0.5, criterion: {criterion}, layers: [blocks.*]", data)
    assert len(removed(some)) == 2
    assert removed(pruned(module, f"ratio: 0.5, criterion: {criterion}, layers: [blocks.*]", data)) == removed(some)


def test_what_is_removed_leaves_the_file_and_the_figures(module: nn.Module, data: wb.Dataset, tmp_path: Path):
    dense = wb.compress(module, "", data)
    small = pruned(module, "ratio: 0.99", data, "\n- quantize: {bits: 8}")
    path = small.save(tmp_path / "small.wbz")
    assert path.stat().st_size == small.nbytes
    assert removed(small) == [f"blocks.{place}" for place in range(4)]
    assert not any(name.startswith("blocks.") or "_l1" in name for name in small.tensors)
    rows = {layer.name: layer for layer in small.layers}
    before = {layer.name: layer for layer in dense.layers}
    assert rows["rows"].params == 4 * 6 * (8 + 6 + 2)
    assert rows["rows"].macs == 8 * 4 * 6 * (8 + 6) < before["rows"].macs
    again = wb.load_compressed(path, model=Residual())
    images = torch.randn(4, 1, 8, 8)
    assert torch.equal(again.module(images), small.module(images))
    assert small.summarize("blocks.0").removed == 1.0
    with pytest.raises(WorkbenchError, match="removed by the recipe"):
        small.weight_pair("blocks.0")


def test_blocks_go_until_a_share_of_the_macs_is_left(module: nn.Module, data: wb.Dataset):
    dense = sum(layer.macs for layer in wb.compress(module, "", data).layers)
    shares = {}
    for wanted in (0.9, 0.7, 0.5):
        some = pruned(module, f"macs: {wanted}", data)
        shares[wanted] = sum(layer.macs for layer in some.layers) / dense
        assert shares[wanted] <= wanted or any("no more blocks can go" in note for note in some.notes)
    assert shares[0.9] > shares[0.5]


def test_a_block_stays_where_one_of_its_layers_is_not_selected(data: wb.Dataset):
    some = wb.compress("resnet20", "- prune: {granularity: layer, criterion: random, ratio: 0.9, layers: ['*.conv1']}")
    assert removed(some) == []
    assert any("no block is selected" in note for note in some.notes)


def test_a_model_with_nothing_to_remove_says_so(data: wb.Dataset):
    some = wb.compress("lenet300", "- prune: {granularity: layer, criterion: random, ratio: 0.5}")
    assert removed(some) == []
    assert any("No layers could be removed (none gives the shape that it takes)" in note for note in some.notes)


def test_blocks_can_go_after_factorizing_channels_and_twice(data: wb.Dataset, tmp_path: Path):
    recipe = """
- prune: {granularity: filter, ratio: 0.25, scope: layer}
- factorize: {rank: 4}
- prune: {granularity: layer, criterion: random, ratio: 0.3}
- prune: {granularity: layer, criterion: random, ratio: 0.3, seed: 1}
"""
    some = wb.compress("resnet20", recipe)
    assert len(removed(some)) >= 6
    again = wb.load_compressed(some.save(tmp_path / "some.wbz"))
    images = torch.randn(2, 1, 28, 28)
    assert torch.equal(again.module(images), some.module(images))


def test_the_exported_graph_answers_as_the_module_does(module: nn.Module, data: wb.Dataset):
    model = wb.load_model(module)
    evaluator = Evaluator(Subject.of(model, (1, 8, 8)), data["test"], data.normalization)
    compressed = pruned(module, "ratio: 0.6", data)
    assert evaluator.graphs.exports(compressed)
    graph = evaluator.graphs.of(compressed)
    assert graph is not None
    assert set(graph.names) == set(compressed.tensors)
    assert evaluator.confirm(compressed)
    assert evaluator.runner(compressed).runtime == "onnxruntime"


def test_the_drop_needs_data_and_ranks_nothing_but_layers():
    with pytest.raises(WorkbenchError, match="needs calibration data"):
        wb.compress("resnet20", "- prune: {granularity: layer, ratio: 0.3}")
    with pytest.raises(RecipeError, match="does not rank granularity layer"):
        wb.Recipe.parse("- prune: {granularity: layer, criterion: magnitude}")
    with pytest.raises(RecipeError, match="does not rank granularity weight"):
        wb.Recipe.parse("- prune: {criterion: drop}")
