"""Awkward architectures: channel groups hold what they promise, tied weights stay tied."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import workbench as wb
from tests.gallery import CLASSES, CLASSIFIERS, SHAPE, UNUSUAL, TwoInputs, build
from workbench.errors import WorkbenchError
from workbench.models.chains import find_pairs
from workbench.models.channels import trace_channels
from workbench.models.edits import apply_edits

TRANSPOSED = nn.modules.conv._ConvTransposeNd
GALLERY = (*CLASSIFIERS, *UNUSUAL)


@pytest.fixture(scope="module")
def data() -> wb.Dataset:
    generator = np.random.default_rng(0)
    images = generator.random((128, *SHAPE), np.float32)
    return wb.load_dataset((images, generator.permutation(128) % CLASSES))


def flat(output: object) -> list[Tensor]:
    """Return the tensors of a module's output, whatever holds them."""
    if isinstance(output, Tensor):
        return [output]
    parts = output.values() if isinstance(output, dict) else output
    return [tensor for part in parts for tensor in flat(part)]  # type: ignore[union-attr]


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("name", GALLERY)
def test_what_channel_groups_promise_holds(name: str):
    """Keeping any channels of the groups leaves a model that runs, as zeroing what reads them does."""
    model = wb.load_model(build(name))
    graph = trace_channels(model.module, SHAPE)
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(3, *SHAPE, generator=generator)
    for group in graph.groups:
        keep = torch.rand(group.size, generator=generator) < 0.5
        keep[0] = True
        sliced, masked = copy.deepcopy(model.module), copy.deepcopy(model.module)
        apply_edits(sliced, group.slices(keep))
        for member in group.members:
            if member.side == "in":
                layer = masked.get_submodule(member.layer)
                weight = layer.get_parameter("weight_ih_l0" if isinstance(layer, nn.RNNBase) else "weight")
                axis = 0 if isinstance(layer, TRANSPOSED) else 1
                channel = torch.tensor(member.channel)[: weight.shape[axis]]
                gone = (channel >= 0) & ~keep[channel]
                weight.data = weight.data.index_fill(axis, gone.nonzero().flatten(), 0.0)
        for ours, theirs in zip(flat(sliced(images)), flat(masked(images)), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    assert all(graph.refused.values())


def test_a_tied_weight_is_stored_once_and_changed_in_both_places(data: wb.Dataset):
    module = build("tied")
    compressed = wb.compress(module, "- prune: {ratio: 0.5, scope: layer}\n- quantize: {bits: 4}", data)
    made = compressed.module
    assert made.second.weight is made.first.weight  # type: ignore[union-attr]
    assert "second.weight" not in compressed.tensors
    assert torch.equal(made.first.weight, compressed.tensors["first.weight"])  # type: ignore[arg-type]
    rows = {layer.name: layer for layer in compressed.layers}
    assert (rows["first"].params, rows["second"].params) == (192 * 192 + 192, 192)
    assert rows["second"].sparsity == rows["first"].sparsity > 0.45
    assert compressed.nbytes < module.first.weight.numel()  # type: ignore[operator, union-attr]


def test_a_tied_weight_is_in_no_pair_to_equalize():
    assert find_pairs(wb.load_model(build("tied")).module) == ()
    assert find_pairs(wb.load_model(build("non_contiguous")).module)


def test_a_model_with_two_inputs_is_refused_with_advice(data: wb.Dataset):
    with pytest.raises(WorkbenchError, match=r"TwoInputs takes 2 inputs \(x, context\).*wrap it"):
        wb.compress(TwoInputs(), "- prune: {ratio: 0.5}", data)
    assert wb.compress(build("two_inputs"), "- prune: {ratio: 0.5}", data).nbytes > 0
