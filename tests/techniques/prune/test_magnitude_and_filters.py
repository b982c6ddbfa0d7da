"""Pruning removes exactly what the reference implementations remove."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import prune as reference

from workbench.compressed import CompressedModel
from workbench.compression import compress
from workbench.models.zoo import ARCHITECTURES
from workbench.models.zoo.mobilenet import MobileNetV2
from workbench.models.zoo.resnet import ResNet20
from workbench.recipe import Recipe

SHAPE = (1, 28, 28)
#: Models most of whose channels are left alone, with a note that says why.
MOSTLY_REFUSED = {"lstm", "shufflenetv2", "vit"}


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    return ARCHITECTURES[name]().eval()


def pruned(module: nn.Module, text: str) -> CompressedModel:
    return compress(module, Recipe.parse(text), image_shape=SHAPE)


def weights(module: nn.Module) -> list[tuple[nn.Module, str]]:
    return [(layer, "weight") for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
def test_global_masks_equal_torch(ratio: float) -> None:
    module = build("lenet5")
    ours = pruned(module, f"- prune: {{ratio: {ratio}}}")
    theirs = copy.deepcopy(module)
    reference.global_unstructured(weights(theirs), reference.L1Unstructured, amount=ratio)
    for name, layer in theirs.named_modules():
        if hasattr(layer, "weight_mask"):
            assert torch.equal(ours.tensors[f"{name}.weight"] != 0, layer.weight_mask.bool())


@pytest.mark.parametrize("ratio", [0.25, 0.7])
def test_layer_masks_equal_torch(ratio: float) -> None:
    module = build("resnet20")
    ours = pruned(module, f"- prune: {{ratio: {ratio}, scope: layer}}")
    theirs = copy.deepcopy(module)
    for layer, tensor in weights(theirs):
        reference.l1_unstructured(layer, tensor, amount=ratio)
    for name, layer in theirs.named_modules():
        if hasattr(layer, "weight_mask"):
            assert torch.equal(ours.tensors[f"{name}.weight"] != 0, layer.weight_mask.bool())


def test_threshold_prunes_what_is_at_most_that_large() -> None:
    module = build("lenet300")
    ours = pruned(module, "- prune: {threshold: 0.02}")
    for name, weight in module.named_parameters():
        if name.endswith("weight"):
            assert torch.equal(ours.tensors[name] != 0, weight.abs() > 0.02)


def test_tied_magnitudes_are_pruned_to_the_exact_count() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    nn.init.constant_(module[1].weight, 0.5)
    ours = pruned(module, "- prune: {ratio: 0.3}")
    assert int((ours.tensors["1.weight"] == 0).sum()) == round(0.3 * 7840)


def test_layers_of_equal_settings_share_one_ranking() -> None:
    module = build("lenet300")
    ours = pruned(module, "- prune: {ratio: 0.6, overrides: {fc3: {ratio: 0.1}}}")
    sparsity = {layer.name: layer.sparsity for layer in ours.layers}
    assert sparsity["fc3"] == pytest.approx(0.1, abs=1e-3)
    both = (ours.tensors["fc1.weight"] == 0).sum() + (ours.tensors["fc2.weight"] == 0).sum()
    assert int(both) == round(0.6 * (300 * 784 + 100 * 300))


def test_the_persons_module_is_never_changed() -> None:
    module = build("lenet5").train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    pruned(module, "- prune: {ratio: 0.5}\n- prune: {granularity: filter, ratio: 0.5}").module(torch.zeros(1, *SHAPE))
    assert module.training
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_filter_pruning_removes_channels_and_equals_masking_them(name: str, scope: str) -> None:
    module = build(name)
    _unlike_fresh_norms(module)
    ours = pruned(module, f"- prune: {{granularity: filter, ratio: 0.5, scope: {scope}}}")
    masked = _mask_removed_channels(module, ours)
    images = torch.randn(4, *SHAPE)
    with torch.inference_mode():
        torch.testing.assert_close(ours.module(images), masked(images), rtol=1e-4, atol=1e-5)
    share = sum(layer.params for layer in ours.layers) / sum(p.numel() for p in module.parameters())
    assert share < 0.65 or name in MOSTLY_REFUSED


@pytest.mark.parametrize("module", [ResNet20(), MobileNetV2()], ids=["resnet20", "mobilenetv2"])
def test_slices_equal_torch_pruning(module: nn.Module) -> None:
    import torch_pruning as tp

    module.eval()
    ours = pruned(module, "- prune: {granularity: filter, ratio: 0.5, scope: layer}")
    theirs = copy.deepcopy(module).requires_grad_(True)
    graph = tp.DependencyGraph().build_dependency(theirs, torch.zeros(1, *SHAPE), verbose=False)
    layers = dict(theirs.named_modules())
    from workbench.models.channels import trace_channels
    from workbench.models.edits import Slice

    kept = {edit.layer: edit.keep for edit in ours.edits if isinstance(edit, Slice) and edit.side == "out"}
    for group in trace_channels(module, SHAPE).groups:
        if group.name in kept:
            gone = sorted(set(range(group.size)) - set(kept[group.name]))
            layer = layers[group.name]
            prune_out = tp.prune_conv_out_channels if isinstance(layer, nn.Conv2d) else tp.prune_linear_out_channels
            if getattr(layer, "groups", 1) > 1:
                prune_out = tp.prune_depthwise_conv_out_channels
            graph.get_pruning_group(layer, prune_out, idxs=gone).prune()
    expected = theirs.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in ours.module.state_dict().items())


def test_filter_counts_are_multiples_and_the_reached_ratio_is_told() -> None:
    ours = pruned(build("resnet20"), "- prune: {granularity: filter, ratio: 0.4, scope: layer, multiple: 8}")
    assert all(layer.shape[0] % 8 == 0 for layer in ours.layers if layer.type == "Conv2d")
    assert any("prunable filters removed" in note for note in ours.notes)


def test_the_strongest_filters_are_kept() -> None:
    module = build("lenet5")
    ours = pruned(module, "- prune: {granularity: filter, ratio: 0.5, scope: layer, multiple: 1}")
    norms = module.conv2.weight.detach().abs().sum((1, 2, 3))
    kept = next(edit.keep for edit in ours.edits if edit.layer == "conv2")
    assert set(kept) == set(norms.topk(25).indices.tolist())


def test_outputs_are_never_pruned() -> None:
    ours = pruned(build("resnet20"), "- prune: {granularity: filter, ratio: 0.9, scope: layer, multiple: 1}")
    assert ours.module(torch.zeros(2, *SHAPE)).shape == (2, 10)


def test_a_layer_left_out_keeps_its_coupled_layers_too() -> None:
    text = "- prune: {granularity: filter, ratio: 0.5, scope: layer, layers: ['stage1.0.conv2']}"
    ours = pruned(build("resnet20"), text)
    assert not ours.edits
    assert any("No filters could be removed" in note for note in ours.notes)


def _unlike_fresh_norms(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.5, 0.5)
            layer.running_mean.uniform_(-0.5, 0.5)
            layer.running_var.uniform_(0.5, 2)


def _mask_removed_channels(module: nn.Module, ours: CompressedModel) -> nn.Module:
    """Return the dense module with the removed channels' inputs cut off instead of sliced away."""
    masked = copy.deepcopy(module)
    for edit in ours.edits:
        layer = masked.get_submodule(edit.layer)
        if edit.side == "in":
            gone = torch.ones(layer.weight.shape[1], dtype=torch.bool)
            gone[list(edit.keep)] = False
            layer.weight.data[:, gone] = 0
    return masked
