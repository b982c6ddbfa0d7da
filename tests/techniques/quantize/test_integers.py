"""Grids, ranges and rounding equal PyTorch's fake quantization and observers."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch.ao.quantization.observer import MinMaxObserver, PerChannelMinMaxObserver

from workbench.compression import compress, compress_subject, context_for, draft_for
from workbench.data.load import load_dataset
from workbench.errors import WorkbenchError
from workbench.models.edits import InputQuantizer, QuantizeInput
from workbench.models.load import load_model
from workbench.models.zoo import ARCHITECTURES
from workbench.recipe import Recipe
from workbench.subject import Subject
from workbench.techniques.context import Context

SHAPE = (1, 28, 28)


@pytest.fixture(scope="module")
def module() -> nn.Module:
    torch.manual_seed(0)
    return ARCHITECTURES["lenet5"]().eval()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("per", ["channel", "tensor"])
@pytest.mark.parametrize("scheme", ["affine", "symmetric"])
@pytest.mark.parametrize("bits", range(1, 9))
def test_weights_equal_torch_fake_quantize(module: nn.Module, bits: int, scheme: str, per: str) -> None:
    ours = compress(module, f"- quantize: {{bits: {bits}, scheme: {scheme}, per: {per}}}", image_shape=SHAPE)
    for name in ("conv1", "conv2", "fc1", "fc2"):
        weight = module.get_submodule(name).weight.detach()
        expected = _reference(weight, bits, scheme, per)
        torch.testing.assert_close(ours.tensors[f"{name}.weight"], expected, rtol=0, atol=1e-7)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("per", ["channel", "tensor"])
@pytest.mark.parametrize(
    "cuts", ["- prune: {ratio: 0.9}", "- prune: {ratio: 0.5}\n- prune: {ratio: 0.8, scope: layer}"]
)
def test_pruned_weights_are_on_the_grid_of_what_pruning_left(module: nn.Module, cuts: str, per: str) -> None:
    ours = compress(module, f"{cuts}\n- quantize: {{bits: 4, per: {per}}}", image_shape=SHAPE)
    pruned = compress(module, cuts, image_shape=SHAPE)
    for name in ("conv1", "conv2", "fc1", "fc2"):
        expected = _reference(pruned.tensors[f"{name}.weight"], 4, "affine", per)
        torch.testing.assert_close(ours.tensors[f"{name}.weight"], expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("scheme", ["affine", "symmetric"])
@pytest.mark.parametrize("per", ["channel", "tensor"])
def test_codes_kept_from_another_ratio_are_those_of_the_weights_that_are_left(
    module: nn.Module, per: str, scheme: str, scope: str
) -> None:
    """Up to ratios at which whole channels, and with them their ranges, are gone."""
    subject = Subject.of(load_model(module), SHAPE)
    context = context_for(subject.model, None)
    for ratio, bits in itertools.product((0.0, 0.3, 0.8, 0.97, 0.999), (2, 4, 8)):
        prune = {"prune": {"ratio": ratio, "scope": scope}}
        quantize = {"quantize": {"bits": bits, "per": per, "scheme": scheme}}
        ours = compress_subject(subject, Recipe.parse([prune, quantize]), context)
        fresh = draft_for(subject, Recipe.parse([prune]), context_for(subject.model, None))
        plain = fresh.build()
        theirs = compress(plain, [quantize], image_shape=SHAPE)
        for name, codes in theirs.codes.items():
            assert torch.equal(ours.codes[name].codes, codes.codes), (name, ratio, bits)
            assert torch.equal(ours.codes[name].scale, codes.scale)
            assert torch.equal(ours.codes[name].zero_point, codes.zero_point)
            assert torch.equal(ours.tensors[name], theirs.tensors[name])


def _reference(weight: torch.Tensor, bits: int, scheme: str, per: str) -> torch.Tensor:
    kind = f"per_{per}_{scheme}"
    options = {"dtype": torch.quint8, "qscheme": getattr(torch, kind), "quant_min": 0, "quant_max": 2**bits - 1}
    observer = PerChannelMinMaxObserver(**options) if per == "channel" else MinMaxObserver(**options)
    observer(weight)
    if bits == 1:
        # the observers refuse a single bit; the same formula by hand
        flat = weight.flatten(1) if per == "channel" else weight.reshape(1, -1)
        low, high = flat.amin(1).clamp_max(0), flat.amax(1).clamp_min(0)
        scale = torch.maximum(-low, high) * 2 if scheme == "symmetric" else high - low
        zero = torch.ones_like(scale) if scheme == "symmetric" else torch.round(-low / scale).clamp(0, 1)
    else:
        scale, zero = observer.calculate_qparams()
        if scheme == "symmetric":
            zero = torch.full_like(zero, 2 ** (bits - 1))
    if per == "channel":
        return torch.fake_quantize_per_channel_affine(weight, scale.float(), zero.int(), 0, 0, 2**bits - 1)
    return torch.fake_quantize_per_tensor_affine(weight, float(scale), int(zero), 0, 2**bits - 1)


@pytest.mark.parametrize(("form", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_short_floats_equal_torch_casts(module: nn.Module, form: str, dtype: torch.dtype) -> None:
    ours = compress(module, f"- quantize: {{format: {form}}}", image_shape=SHAPE)
    weight = module.get_submodule("fc1").weight.detach()
    assert torch.equal(ours.tensors["fc1.weight"], weight.to(dtype).float())
    assert all(torch.equal(value, ours.tensors[name]) for name, value in ours.module.state_dict().items())


def test_pruned_weights_stay_exactly_zero(module: nn.Module) -> None:
    ours = compress(module, "- prune: {ratio: 0.6}\n- quantize: {bits: 3}", image_shape=SHAPE)
    alone = compress(module, "- prune: {ratio: 0.6}", image_shape=SHAPE)
    for name in ("conv1.weight", "fc1.weight"):
        assert bool((ours.tensors[name][alone.tensors[name] == 0] == 0).all())


def test_pruning_after_quantizing_keeps_the_grid(module: nn.Module) -> None:
    ours = compress(module, "- quantize: {bits: 4}\n- prune: {ratio: 0.5}", image_shape=SHAPE)
    assert {layer.bits for layer in ours.layers} == {4}
    for codes in ours.codes.values():
        assert int(codes.codes.max()) <= 15


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_input_quantizer_equals_torch(bits: int) -> None:
    values = torch.randn(5, 7) * 3
    edit = QuantizeInput("x", bits, 0.37, 5)
    ((ours,), _) = InputQuantizer(edit)(nn.Identity(), (values,), {})
    expected = torch.fake_quantize_per_tensor_affine(values, 0.37, 5, 0, 2**bits - 1)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)


def test_input_ranges_are_those_seen_on_the_calibration_split(module: nn.Module) -> None:
    data = load_dataset("fashion_mnist")
    ours = compress(module, "- quantize: {bits: 8, activations: {bits: 8}}", data)
    edit = next(edit for edit in ours.edits if edit.layer == "conv1")
    images = data.normalization(Context(data["calibration"]).mixed_images(256))
    low, high = float(images.min()), float(images.max())
    assert edit.scale == pytest.approx((high - low) / 255, rel=1e-5)
    assert edit.zero_point == round(-low / edit.scale)


def test_percentile_ranges_are_narrower(module: nn.Module) -> None:
    data = load_dataset("fashion_mnist")
    full = compress(module, "- quantize: {activations: {bits: 8}}", data)
    cut = compress(module, "- quantize: {activations: {observer: percentile, percentile: 99}}", data)
    scales = [{edit.layer: edit.scale for edit in item.edits} for item in (full, cut)]
    assert scales[1]["fc1"] < scales[0]["fc1"]


def test_activations_without_data_say_so(module: nn.Module) -> None:
    with pytest.raises(WorkbenchError, match="needs calibration data"):
        compress(module, Recipe.parse("- quantize: {activations: {}}"), image_shape=SHAPE)


def test_a_layer_of_equal_weights_survives() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    nn.init.zeros_(flat[1].weight)
    ours = compress(flat, "- quantize: {bits: 2}", image_shape=SHAPE)
    assert torch.equal(ours.tensors["1.weight"], torch.zeros(10, 784))
