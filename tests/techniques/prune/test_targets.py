"""Scopes and targets: how much goes, and from where."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import workbench as wb
from workbench.compressed import CompressedModel
from workbench.models.zoo import ARCHITECTURES

SHAPE = (1, 28, 28)


@pytest.fixture(scope="module")
def module() -> nn.Module:
    torch.manual_seed(0)
    return ARCHITECTURES["lenet5"]().eval()


def pruned(module: nn.Module, text: str) -> CompressedModel:
    return wb.compress(module, text, image_shape=SHAPE)


def test_a_threshold_in_standard_deviations_is_each_layers_own(module: nn.Module) -> None:
    ours = pruned(module, "- prune: {threshold: 0.7, threshold_in: std}")
    for name, weight in module.named_parameters():
        if weight.ndim > 1:
            assert torch.equal(ours.tensors[name] == 0, weight.abs() <= 0.7 * weight.std())
    assert ours.thresholds["fc1"] <= 0.7 * float(module.fc1.weight.detach().std())


def test_the_floor_keeps_each_layers_largest_weights(module: nn.Module) -> None:
    plain = pruned(module, "- prune: {ratio: 0.9}")
    ours = pruned(module, "- prune: {ratio: 0.9, floor: 0.25}")
    left = {layer.name: 1 - layer.sparsity for layer in ours.layers}
    assert min(1 - layer.sparsity for layer in plain.layers) < 0.25
    assert min(left.values()) >= 0.25
    kept = module.fc1.weight.abs().flatten().topk(round(0.25 * module.fc1.weight.numel())).indices
    assert (ours.tensors["fc1.weight"].flatten()[kept] != 0).all()
    assert any("stops pruning at" in note for note in ours.notes)


def test_a_floor_that_binds_nowhere_changes_nothing(module: nn.Module) -> None:
    plain, floored = (pruned(module, f"- prune: {{ratio: 0.5, floor: {floor}}}") for floor in (0, 0.001))
    assert all(torch.equal(plain.tensors[name], floored.tensors[name]) for name in plain.tensors)
    assert plain.thresholds == pytest.approx(floored.thresholds, abs=1e-3)


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("share", [0.25, 0.6])
def test_a_share_of_macs_is_reached_by_the_fewest_weights(module: nn.Module, share: float, scope: str) -> None:
    ours = pruned(module, f"- prune: {{macs: {share}, scope: {scope}}}")
    dense = sum(layer.macs for layer in ours.layers)
    left = sum(layer.macs * (1 - layer.sparsity) for layer in ours.layers)
    finest = max(layer.macs / layer.params for layer in ours.layers)
    assert share * dense - 4 * finest < left <= share * dense


def test_row_scope_takes_the_same_share_of_every_output(module: nn.Module) -> None:
    ours = pruned(module, "- prune: {ratio: 0.3, scope: row}")
    for name, weight in module.named_parameters():
        if weight.ndim > 1:
            gone = (ours.tensors[name] == 0).flatten(1).sum(1)
            assert (gone == round(0.3 * weight[0].numel())).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("{threshold: 0.1, macs: 0.5}", "threshold and macs"),
        ("{criterion: wanda, granularity: filter}", "criterion wanda does not rank granularity filter"),
        ("{criterion: random, threshold: 1, threshold_in: std}", "choose criterion magnitude"),
        ("{granularity: filter, scope: row}", "scope row"),
        ("{macs: 0}", "macs is 0"),
        ("{floor: 2}", "floor is 2"),
    ],
)
def test_settings_that_contradict_are_refused_in_a_sentence(settings: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        wb.Recipe.parse(f"- prune: {settings}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [0.0, 0.5])
@pytest.mark.parametrize("settings", ["ratio: 0.5, floor: 0.2", "criterion: random", "scope: row", "macs: 0.5"])
def test_weights_that_are_all_equal_are_pruned_to_the_share(settings: str, value: float) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    nn.init.constant_(model[1].weight, value)
    ours = pruned(model, f"- prune: {{{settings}}}")
    zeros = int((ours.tensors["1.weight"] == 0).sum())
    assert zeros == (3920 if value else 7840)
    assert ours.module(torch.zeros(1, *SHAPE)).isfinite().all()
