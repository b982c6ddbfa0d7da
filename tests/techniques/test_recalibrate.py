"""Recalibrated statistics are the mean over batches, as PyTorch's own update computes it."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from workbench.compression import compress
from workbench.data.load import load_dataset
from workbench.models.zoo.resnet import ResNet20
from workbench.techniques.context import Context


def test_statistics_equal_update_bn() -> None:
    torch.manual_seed(0)
    module = ResNet20(width=8).eval()
    data = load_dataset("fashion_mnist")
    ours = compress(module, "- prune: {ratio: 0.6}\n- recalibrate: {images: 256, batch: 64}", data)
    theirs = copy.deepcopy(module)
    pruned = compress(module, "- prune: {ratio: 0.6}", data)
    theirs.load_state_dict(dict(pruned.tensors))
    images = data.normalization(Context(data["calibration"]).mixed_images(256))
    update_bn(images.split(64), theirs)
    for name, value in theirs.state_dict().items():
        if "running" in name:
            torch.testing.assert_close(ours.tensors[name], value, rtol=1e-3, atol=1e-5)


def test_weights_stay_and_a_model_without_batchnorm_is_told() -> None:
    data = load_dataset("fashion_mnist")
    module = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    ours = compress(module, "- recalibrate: {images: 64}", data)
    assert torch.equal(ours.tensors["1.weight"], module[1].weight)
    assert any("no BatchNorm" in note for note in ours.notes)
