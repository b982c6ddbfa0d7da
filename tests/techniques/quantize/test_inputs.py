"""What enters a layer: the range each observer chooses, and ranges taken from every batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

import workbench as wb
from workbench.models.edits import (
    BinarizeInput,
    Edit,
    InputQuantizer,
    QuantizeInputByBatch,
    edit_from_json,
    edit_to_json,
)
from workbench.models.zoo import ARCHITECTURES
from workbench.run.observe import HISTOGRAM_BINS
from workbench.run.onnx_export import export_graph
from workbench.run.runner import OnnxRunner
from workbench.techniques.base import Cost
from workbench.techniques.quantize.inputs import clip, middle
from workbench.techniques.quantize.settings import ActivationSettings

SHAPE = (1, 28, 28)


def histogram(values: Tensor) -> tuple[tuple[float, float], np.ndarray]:
    low, high = float(values.min()), float(values.max())
    return (low, high), torch.histc(values, HISTOGRAM_BINS, low, high).long().numpy()


def loss(values: Tensor, low: float, high: float, bits: int) -> float:
    scale = (high - low) / (2**bits - 1)
    rounded = torch.fake_quantize_per_tensor_affine(values, scale, round(-low / scale), 0, 2**bits - 1)
    return float((rounded - values).square().mean())


@pytest.mark.parametrize("bits", [4, 6, 8])
@pytest.mark.parametrize("signed", [False, True])
def test_the_mse_range_is_near_the_best_of_all_shares(bits: int, signed: bool) -> None:
    torch.manual_seed(0)
    values = torch.randn(50_000) ** 3
    values = values if signed else values.relu()
    bounds, counts = histogram(values)
    low, high = clip(bounds, counts, ActivationSettings(bits=bits, observer="mse"))
    best = min(loss(values, bounds[0] * share, bounds[1] * share, bits) for share in np.linspace(0.02, 1, 99))
    assert loss(values, low, high, bits) < 1.1 * best
    assert loss(values, low, high, bits) <= loss(values, *bounds, bits)


@pytest.mark.parametrize("signed", [False, True])
def test_the_entropy_range_leaves_out_what_is_rare_and_far(signed: bool) -> None:
    torch.manual_seed(0)
    values = torch.randn(50_000) if signed else torch.randn(50_000).abs()
    bounds, counts = histogram(torch.cat([values, torch.tensor([200.0])]))
    low, high = clip(bounds, counts, ActivationSettings(bits=4, observer="entropy"))
    assert 1 < high < 30
    assert low == (pytest.approx(bounds[0]) if signed else 0)


@pytest.mark.parametrize("observer", ["mse", "entropy"])
def test_observers_follow_the_calibration_split_and_reload(observer: str, tmp_path: Path) -> None:
    text = f"- quantize: {{bits: 8, activations: {{bits: 5, observer: {observer}}}}}"
    ours, full = (wb.compress("lenet5", item, "fashion_mnist") for item in (text, text.replace(observer, "minmax")))
    assert len(ours.edits) == 4
    for edit, other in zip(ours.edits, full.edits, strict=True):
        assert 0 < edit.scale <= other.scale * (1 + 1e-6)
    loaded = wb.load_compressed(ours.save(tmp_path / "small.wbz"))
    images = torch.randn(3, *SHAPE)
    with torch.inference_mode():
        assert torch.equal(loaded.module(images), ours.module(images))


def test_constant_inputs_are_no_trouble() -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x.flatten(1)[:, :4] * 0)

    ways = [f"observer: {observer}" for observer in ("minmax", "percentile", "mse", "entropy")]
    for way in [*ways, "mode: binary"]:
        text = f"- quantize: {{activations: {{{way}}}}}"
        found = wb.compress(Constant().eval(), text, "fashion_mnist").module(torch.rand(2, *SHAPE))
        assert bool(found.isfinite().all())


@pytest.mark.parametrize("shift", [-2.0, 0.0, 3.0])
def test_dynamic_rounding_is_onnx_dynamic_quantize_linear(shift: float) -> None:
    torch.manual_seed(0)
    values = torch.randn(20, 7) + shift
    ((ours,), _) = InputQuantizer(QuantizeInputByBatch("x", 8))(nn.Identity(), (values,), {})
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["codes", "scale", "zero"]),
        helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["y"]),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [20, 7]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "dynamic", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    (expected,) = ort.InferenceSession(model.SerializeToString()).run(None, {"x": values.numpy()})
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("bits", [5, 8])
@pytest.mark.parametrize("name", ["lenet5", "resnet20"])
def test_onnx_and_torch_round_each_batch_alike(name: str, bits: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = ARCHITECTURES[name]().eval()
    ours = wb.compress(module, f"- quantize: {{activations: {{bits: {bits}, mode: dynamic}}}}", image_shape=SHAPE)
    images = torch.randn(6, *SHAPE)
    with torch.inference_mode():
        expected = ours.module(images).numpy()
    found = OnnxRunner(export_graph(module, SHAPE).build(ours.tensors, ours.grids)).logits(images)
    # a value on the edge between two levels may fall either way
    assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max()
    assert np.abs(found - expected).mean() < 0.02 * np.abs(expected).max()
    loaded = wb.load_compressed(ours.save(tmp_path / "small.wbz"), model=ARCHITECTURES[name]())
    with torch.inference_mode():
        assert np.array_equal(loaded.module(images).numpy(), expected)


@pytest.mark.parametrize("name", ["lenet5", "resnet20"])
def test_binary_inputs_and_weights_run_alike_in_onnx_and_come_back_from_the_file(name: str, tmp_path: Path) -> None:
    ours = wb.compress(name, "- quantize: {format: binary, activations: {mode: binary}}", "fashion_mnist")
    data = wb.load_dataset("fashion_mnist")
    images = data.normalization(data["test"].images[:6])
    seen: dict[str, Tensor] = {}
    for layer, module in ours.module.named_modules():
        if layer in ours.grids:
            module.register_forward_hook(lambda _, inputs, __, layer=layer: seen.update({layer: inputs[0]}))
    with torch.inference_mode():
        expected = ours.module(images).numpy()
    assert seen.keys() == ours.grids.keys() == {layer.name for layer in ours.layers}
    for layer, values in seen.items():
        grid = ours.grids[layer]
        assert grid.centre is not None
        found = set(values.unique().tolist())
        assert found <= {float(np.float32(grid.centre + sign * grid.scale)) for sign in (-1, 1)}
    assert len(seen["conv1"].unique()) == 2
    found = OnnxRunner(export_graph(wb.load_model(name).module, SHAPE).build(ours.tensors, ours.grids)).logits(images)
    np.testing.assert_allclose(found, expected, atol=0.05 * np.abs(expected).max())
    loaded = wb.load_compressed(ours.save(tmp_path / "small.wbz"))
    with torch.inference_mode():
        assert np.array_equal(loaded.module(images).numpy(), expected)


def test_two_values_are_the_mean_and_the_mean_distance_from_it() -> None:
    """No other scale about the mean is nearer to the values (Rastegari et al. 2016, equations 3 to 6)."""
    torch.manual_seed(0)
    values = torch.randn(50_000).relu() + 0.5
    centre, scale = middle(*histogram(values))
    assert centre == pytest.approx(float(values.mean()), rel=1e-3)
    assert scale == pytest.approx(float((values - values.mean()).abs().mean()), rel=1e-3)

    def error(distance: float) -> float:
        edit = BinarizeInput("x", scale=distance, centre=centre)
        ((found,), _) = InputQuantizer(edit)(nn.Identity(), (values,), {})
        return float((found - values).square().mean())

    assert error(scale) < min(error(0.9 * scale), error(1.1 * scale))


@pytest.mark.parametrize("edit", [QuantizeInputByBatch("fc", 6), BinarizeInput("fc", scale=0.3, centre=-0.1)])
def test_edits_come_back_from_the_file(edit: Edit) -> None:
    assert edit_from_json(edit_to_json(edit)) == edit
    assert type(edit_from_json(edit_to_json(edit))) is type(edit)


def test_dynamic_ranges_are_live_and_have_no_observer() -> None:
    assert wb.Recipe.parse("- quantize: {activations: {mode: dynamic}}").cost == Cost.LIVE
    with pytest.raises(wb.WorkbenchError, match="nothing to observe by mse"):
        wb.Recipe.parse("- quantize: {activations: {mode: dynamic, observer: mse}}")
    assert wb.Recipe.parse("- quantize: {activations: {mode: binary}}").cost == Cost.CALIBRATED
    with pytest.raises(wb.WorkbenchError, match="no range to observe by mse; leave observer out"):
        wb.Recipe.parse("- quantize: {activations: {mode: binary, observer: mse}}")


def test_recipes_measured_before_keep_their_hash() -> None:
    old = "- quantize: {bits: 4, overrides: {fc: {activations: {bits: 6}}}}"
    assert wb.Recipe.parse(old).hash == wb.Recipe.parse(old.replace("bits: 6", "bits: 6, mode: static")).hash
    assert wb.Recipe.parse(old).hash != wb.Recipe.parse(old.replace("bits: 6", "bits: 6, mode: dynamic")).hash
