"""Filters are ranked as each criterion's paper says, by brute force on a small network."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import workbench as wb
from workbench.compressed import CompressedModel
from workbench.data.dataset import Dataset, Normalization, Split
from workbench.errors import WorkbenchError
from workbench.models.zoo import ARCHITECTURES

SHAPE = (2, 8, 8)


class Small(nn.Module):
    """Two convolutions and two Linear layers; the first has a BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 12, 3)
        self.bn = nn.BatchNorm2d(12)
        self.conv2 = nn.Conv2d(12, 10, 3)
        self.fc1 = nn.Linear(10, 16)
        self.fc2 = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.conv1(x)))
        x = F.relu(self.conv2(x)).mean((2, 3))
        return self.fc2(F.relu(self.fc1(x)))


@pytest.fixture(scope="module")
def module() -> nn.Module:
    torch.manual_seed(0)
    found = Small().eval()
    nn.init.normal_(found.bn.weight)
    nn.init.normal_(found.bn.bias, std=0.3)
    return found


@pytest.fixture(scope="module")
def data() -> Dataset:
    images = torch.rand(40, *SHAPE, generator=torch.Generator().manual_seed(1))
    splits = {name: Split(name, images, torch.arange(40) % 4) for name in ("train", "calibration", "test")}
    return Dataset("small", splits, ("a", "b", "c", "d"), Normalization((0.5, 0.4), (0.3, 0.2)))


def pruned(module: nn.Module, settings: str, data: Dataset | None = None) -> CompressedModel:
    text = f"- prune: {{granularity: filter, scope: layer, multiple: 1, {settings}}}"
    return wb.compress(module, text, data, image_shape=SHAPE)


def kept(ours: CompressedModel, layer: str) -> set[int]:
    return set(next(edit.keep for edit in ours.edits if edit.layer == layer and edit.side == "out"))


def best(scores: Tensor, count: int) -> set[int]:
    return set(scores.topk(count).indices.tolist())


def inputs_of(module: nn.Module, layer: str, data: Dataset) -> Tensor:
    seen: list[Tensor] = []
    handle = module.get_submodule(layer).register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    with torch.no_grad():
        module(data.normalization(data["calibration"].images))
    handle.remove()
    return seen[0]


@pytest.mark.parametrize(("layer", "reader"), [("conv1", "conv2"), ("fc1", "fc2")])
def test_mean_activation_and_share_of_zeros_are_those_of_what_is_read(
    module: nn.Module, data: Dataset, layer: str, reader: str
) -> None:
    values = inputs_of(module, reader, data).transpose(0, 1).flatten(1)
    count = len(values) // 2
    assert kept(pruned(module, "criterion: activation", data), layer) == best(values.abs().mean(1), count)
    assert kept(pruned(module, "criterion: apoz", data), layer) == best((values != 0).float().mean(1), count)


def test_batchnorm_ranks_by_the_scale_and_leaves_what_has_none(module: nn.Module) -> None:
    ours = pruned(module, "criterion: batchnorm")
    assert kept(ours, "conv1") == best(module.bn.weight.abs(), 6)
    assert {edit.layer for edit in ours.edits} == {"conv1", "bn", "conv2"}
    assert any("finds nothing of theirs to judge by" in note for note in ours.notes)


def test_fpgm_removes_the_filters_nearest_to_all_others(module: nn.Module) -> None:
    ours = pruned(module, "criterion: fpgm")
    for name in ("conv1", "conv2", "fc1"):
        filters = module.get_submodule(name).weight.detach().flatten(1)
        distances = torch.stack([sum((one - other).norm() for other in filters) for one in filters])
        assert kept(ours, name) == best(distances, len(filters) // 2)


@pytest.mark.parametrize("criterion", ["taylor", "fisher"])
def test_gradient_criteria_sum_over_a_filters_weights(module: nn.Module, data: Dataset, criterion: str) -> None:
    images, labels = data.normalization(data["calibration"].images), data["calibration"].labels
    weights = {name: module.get_submodule(name).weight.requires_grad_(True) for name in ("conv1", "conv2", "fc1")}
    scores = {name: torch.zeros(len(weight)) for name, weight in weights.items()}
    if criterion == "taylor":
        slopes = torch.autograd.grad(F.cross_entropy(module(images), labels), list(weights.values()))
        for (name, weight), slope in zip(weights.items(), slopes, strict=True):
            scores[name] = (weight * slope).detach().flatten(1).sum(1).abs()
    else:
        for image, label in zip(images, labels, strict=True):
            loss = F.cross_entropy(module(image[None]), label[None])
            slopes = torch.autograd.grad(loss, list(weights.values()))
            for (name, weight), slope in zip(weights.items(), slopes, strict=True):
                scores[name] += (weight * slope).detach().square().flatten(1).sum(1) / len(images)
    ours = pruned(module, f"criterion: {criterion}", data)
    for name, score in scores.items():
        assert kept(ours, name) == best(score, len(score) // 2)


def test_random_filters_repeat_by_their_seed(module: nn.Module) -> None:
    made = [pruned(module, f"criterion: random, seed: {seed}") for seed in (3, 3, 4)]
    assert made[0].edits == made[1].edits != made[2].edits
    assert {layer.name: layer.shape[0] for layer in made[0].layers} == {"conv1": 6, "conv2": 5, "fc1": 8, "fc2": 4}


@pytest.mark.parametrize("criterion", ["taylor", "fisher", "activation", "apoz"])
def test_filters_ranked_by_data_need_data(module: nn.Module, criterion: str) -> None:
    with pytest.raises(WorkbenchError, match=f"Pruning by {criterion} needs calibration data"):
        pruned(module, f"criterion: {criterion}")


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("share", [0.25, 0.5, 0.8])
@pytest.mark.parametrize("name", ["resnet20", "mobilenetv2", "lenet5"])
def test_a_share_of_macs_is_reached_and_not_overshot(name: str, share: float, scope: str) -> None:
    torch.manual_seed(0)
    text = f"- prune: {{granularity: filter, macs: {share}, scope: {scope}, multiple: 1}}"
    ours = wb.compress(ARCHITECTURES[name](), text, image_shape=(1, 28, 28))
    dense = sum(layer.macs for layer in wb.compress(ARCHITECTURES[name](), "[]", image_shape=(1, 28, 28)).layers)
    left = sum(layer.macs for layer in ours.layers) / dense
    assert share - 0.06 < left <= share + 1e-6


def test_a_share_of_macs_out_of_reach_is_told() -> None:
    text = "- prune: {granularity: filter, macs: 0.001, layers: ['*']}"
    ours = wb.compress(ARCHITECTURES["lenet5"](), text, image_shape=(1, 28, 28))
    assert any("no more filters can go" in note for note in ours.notes)
    assert ours.module(torch.zeros(1, 1, 28, 28)).isfinite().all()


def test_the_floor_keeps_that_share_of_every_layers_filters(module: nn.Module) -> None:
    text = "- prune: {granularity: filter, criterion: taylor, ratio: 0.8, multiple: 1, floor: 0.4}"
    with pytest.raises(WorkbenchError, match="calibration data"):
        wb.compress(module, text, image_shape=SHAPE)
    ours = wb.compress(module, text.replace("taylor", "magnitude"), image_shape=SHAPE)
    assert {layer.name: layer.shape[0] for layer in ours.layers} == {"conv1": 5, "conv2": 4, "fc1": 7, "fc2": 4}
