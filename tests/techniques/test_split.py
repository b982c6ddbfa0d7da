"""Split channels leave what the model computes, halve its outliers, and are channels of the file and the graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn

import workbench as wb
from tests.techniques.test_equalize import Plain, uneven
from workbench.models.zoo import ARCHITECTURES
from workbench.run.onnx_export import export_graph
from workbench.techniques.split import SplitSettings, plan_splits

SHAPE = (1, 28, 28)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("text", ["- split: {ratio: 0.3}", "- split: {ratio: 1, bits: 4}"])
@pytest.mark.parametrize("name", ["lenet300", "lenet5", "resnet20", "mobilenetv2", "plain"])
def test_the_model_computes_the_same_here_in_the_file_and_in_onnx(
    name: str, text: str, images: torch.Tensor, tmp_path: Path
) -> None:
    module = uneven(Plain() if name == "plain" else ARCHITECTURES[name]())
    ours = wb.compress(module, text, image_shape=SHAPE)
    assert ours.edits
    again = wb.load_compressed(ours.save(tmp_path / "split.wbz"), model=module).module
    file = export_graph(module, SHAPE).build(ours.tensors).SerializeToString()
    (run,) = ort.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, {"input": images.numpy()})
    with torch.inference_mode():
        before, after = module(images), ours.module(images)
        scale = float(before.abs().max())
        assert float((after - before).abs().max()) < 2e-5 * scale
        assert torch.equal(again(images), after)
    assert float(np.abs(run - after.numpy()).max()) < 2e-5 * scale


def test_channels_are_added_on_both_sides_and_counted() -> None:
    dense, ours = (wb.compress(Plain().eval(), text, image_shape=SHAPE) for text in ("[]", "- split: {ratio: 0.5}"))
    found = {layer.name: layer for layer in ours.layers}
    assert {name: layer.shape[:2] for name, layer in found.items()} == {
        "conv1": (9, 1), "conv2": (8, 9), "fc1": (11, 8 * 36), "fc2": (10, 11),
    }  # fmt: skip
    for layer in dense.layers:
        grown = found[layer.name]
        assert grown.macs == pytest.approx(layer.macs * np.prod(grown.shape) / np.prod(layer.shape))
    assert ours.nbytes > dense.nbytes


def test_the_largest_channel_is_split_again_and_again() -> None:
    columns = torch.tensor([[1.0, -0.5], [-8.0, 2.0], [3.0, 0.0]])
    found = plan_splits(columns, SplitSettings(ratio=1.0))
    assert found.keep == (0, 1, 2, 1, 1, 1)
    split = columns[list(found.keep)] * found.share[:, None]
    assert float(split.abs().max()) == 3.0
    for channel in range(3):
        copies = [place for place, kept in enumerate(found.keep) if kept == channel]
        assert torch.equal(split[copies].sum(0), columns[channel])


@pytest.mark.parametrize("ratio", [0.1, 0.5, 1.0])
def test_halves_set_apart_round_to_what_the_whole_rounds_to(ratio: float) -> None:
    columns = torch.randn(20, 50, generator=torch.Generator().manual_seed(1))
    columns[4] *= 6
    settings = SplitSettings(ratio=ratio, bits=4)
    found = plan_splits(columns, settings)
    halves = columns[list(found.keep)] * found.share[:, None]
    step = float(halves.max() - halves.min()) / 15
    apart, plain = (torch.round((halves + shift) / step) for shift in (found.steps[:, None], 0.0))
    whole = torch.round(columns / step)
    sums = [torch.zeros_like(whole).index_add_(0, torch.tensor(found.keep), codes) for codes in (apart, plain)]
    assert float((sums[0] != whole).float().mean()) < 1e-3  # ties
    assert float((sums[1] != whole).float().mean()) > 0.01


def test_an_outlier_no_longer_spoils_the_grid_and_pruned_weights_stay_zero(images: torch.Tensor) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(784, 40), nn.ReLU(), nn.Linear(40, 10)).eval()
    module[3].weight.data[:, 7] *= 12
    with torch.inference_mode():
        wanted = module(images)
        errors = {}
        for text in ("", "- split: {ratio: 0.1, bits: 4}\n"):
            ours = wb.compress(module, f"{text}- quantize: {{bits: 4, per: tensor, layers: ['3']}}", image_shape=SHAPE)
            errors[text] = float((ours.module(images) - wanted).square().mean())
    assert errors["- split: {ratio: 0.1, bits: 4}\n"] < 0.25 * errors[""]
    pruned = wb.compress(module, "- prune: {ratio: 0.5, scope: layer}\n- split: {bits: 4}", image_shape=SHAPE)
    assert {layer.name: layer.sparsity for layer in pruned.layers}["3"] == pytest.approx(0.5, abs=0.03)


def test_what_cannot_be_split_is_named_and_grids_are_refused() -> None:
    module = ARCHITECTURES["resnet20"]().eval()
    (note,) = wb.compress(module, "- split: {layers: ['stage1.0.*']}", image_shape=SHAPE).notes
    assert note.startswith("Not split")
    assert note.endswith(": stage1.0.conv1.")
    assert wb.compress(module, "- split: {layers: [fc]}", image_shape=SHAPE).notes[0].startswith("Nothing to split")
    with pytest.raises(wb.WorkbenchError, match="put split before quantize"):
        wb.compress(module, "- quantize: {bits: 4}\n- split", image_shape=SHAPE)


def test_a_split_model_has_nothing_to_correct(images: torch.Tensor) -> None:
    texts = "- split: {ratio: 0.3}", "- split: {ratio: 0.3}\n- correct_bias: {images: 32}"
    before, after = (wb.compress("lenet5", text, "fashion_mnist").module for text in texts)
    with torch.inference_mode():
        torch.testing.assert_close(after(images), before(images), rtol=1e-4, atol=1e-4)
