"""Corrected layers give, in the mean, what they gave before compression."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import workbench as wb
from tests.techniques.test_equalize import Rows
from workbench.models.zoo import ARCHITECTURES
from workbench.techniques.context import Context

SHAPE = (1, 28, 28)


def means(module: nn.Module, name: str, images: torch.Tensor) -> torch.Tensor:
    return outputs(module, name, images).mean(1)


def outputs(module: nn.Module, name: str, images: torch.Tensor) -> torch.Tensor:
    """Return what a layer gives, ``(channels, values)``."""
    found: list[torch.Tensor] = []
    handle = module.get_submodule(name).register_forward_hook(lambda *call: found.append(call[2]))
    with torch.inference_mode():
        module(images)
    handle.remove()
    return found[0].transpose(0, 1).flatten(1)


@pytest.mark.parametrize(("name", "layers"), [
    ("lenet5", ("conv1", "conv2", "fc1", "fc2")),
    ("resnet20", ("stage2.0.bn1", "stage3.1.bn1")),
])  # fmt: skip
@pytest.mark.parametrize("step", ["- quantize: {bits: 2}", "- prune: {ratio: 0.6}"])
def test_means_are_what_they_were(name: str, layers: tuple[str, ...], step: str) -> None:
    data, model = wb.load_dataset("fashion_mnist"), wb.load_model(name)
    ours = wb.compress(model, f"{step}\n- correct_bias: {{images: 64, guard: false}}", data)
    plain = wb.compress(model, step, data)
    seen = Context(data["calibration"]).mixed_images(64)
    images = (model.normalization or data.normalization)(seen)
    for layer in layers:
        wanted, corrected, shifted = (means(item, layer, images) for item in (model.module, ours.module, plain.module))
        assert float((corrected - wanted).abs().max()) < 1e-3 * float(wanted.abs().max())
        assert float((shifted - wanted).abs().max()) > 5e-3 * float(wanted.abs().max())


@pytest.mark.parametrize(("settings", "kinds"), [
    ("spread: false", {"bias", "running_mean"}),
    ("spread: true", {"bias", "running_mean", "running_var"}),
])  # fmt: skip
def test_only_biases_and_running_statistics_change(settings: str, kinds: set[str]) -> None:
    step, repair = (
        "- quantize: {bits: 3}",
        f"- correct_bias: {{images: 32, layers: ['stage1.*', fc], guard: false, {settings}}}",
    )
    plain, ours = (wb.compress("resnet20", text, "fashion_mnist") for text in (step, f"{step}\n{repair}"))
    changed = {name for name, value in ours.tensors.items() if not torch.equal(value, plain.tensors[name])}
    assert {name.rpartition(".")[2] for name in changed} == kinds
    assert ours.codes.keys() == plain.codes.keys()


@pytest.mark.parametrize("before", ["", "- recalibrate: {images: 64}\n"])
def test_where_a_batchnorm_follows_the_spread_comes_back_too(before: str) -> None:
    data, model = wb.load_dataset("fashion_mnist"), wb.load_model("resnet20")
    step = f"- quantize: {{bits: 2, range: mse}}\n{before}"
    ours = wb.compress(model, f"{step}- correct_bias: {{images: 64, guard: false, layers: [conv1, stage1.0.*]}}", data)
    plain = wb.compress(model, step, data)
    images = (model.normalization or data.normalization)(Context(data["calibration"]).mixed_images(64))
    for layer in ("bn1", "stage1.0.bn1", "stage1.0.bn2"):
        found = [outputs(item, layer, images) for item in (model.module, ours.module, plain.module)]
        for judge in (lambda rows: rows.std(1), lambda rows: rows.mean(1)):
            wanted, corrected, spoilt = map(judge, found)
            assert float((corrected - wanted).abs().max()) < 2e-3 * float(wanted.abs().max())
            assert float((spoilt - wanted).abs().max()) > 5e-3 * float(wanted.abs().max())


@pytest.mark.parametrize("step", ["- equalize: {}", "- smooth: {images: 64}"])
def test_a_model_that_was_only_rewritten_has_nothing_to_correct(step: str) -> None:
    images = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(0))
    for name, layers in (("lenet5", "*"), ("resnet20", "stage1.1.*")) if "equalize" in step else (("lenet300", "*"),):
        both = step, f"{step}\n- correct_bias: {{images: 32, layers: ['{layers}']}}"
        before, after = (wb.compress(name, text, "fashion_mnist").module for text in both)
        with torch.inference_mode():
            torch.testing.assert_close(after(images), before(images), rtol=1e-3, atol=1e-3)


def test_factors_are_corrected_towards_the_layer_that_they_replace() -> None:
    data, model = wb.load_dataset("fashion_mnist"), wb.load_model("lenet5")
    plain = wb.compress(model, "- factorize: {size: 0.3}", data)
    ours = wb.compress(model, "- factorize: {size: 0.3}\n- correct_bias: {images: 64, guard: false}", data)
    assert {"conv2", "fc1"} <= set(ours.factors)
    images = (model.normalization or data.normalization)(Context(data["calibration"]).mixed_images(64))
    for layer in ("conv2", "fc1"):
        wanted, corrected, shifted = (means(item, layer, images) for item in (model.module, ours.module, plain.module))
        assert float((corrected - wanted).abs().max()) < 1e-3 * float(wanted.abs().max())
        assert float((shifted - wanted).abs().max()) > 5e-3 * float(wanted.abs().max())


@pytest.mark.parametrize("step", ["- prune: {ratio: 0.85}", "- quantize: {bits: 2, range: mse}"])
def test_what_would_move_answers_away_is_left_out(step: str) -> None:
    data, model = wb.load_dataset("fashion_mnist"), wb.load_model("lenet300")
    images = (model.normalization or data.normalization)(Context(data["calibration"]).mixed_images(256))
    recipes = step, f"{step}\n- correct_bias", f"{step}\n- correct_bias: {{guard: false}}"
    plain, ours, forced = (wb.compress(model, recipe, data) for recipe in recipes)
    with torch.inference_mode():
        wanted, *given = (item.module(images).log_softmax(1) for item in (model, plain, ours, forced))
    before, guarded, all_of_them = (float((wanted.exp() * (wanted - logs)).sum(1).mean()) for logs in given)
    assert guarded < before < all_of_them
    assert any("further from the dense model's: " in note for note in ours.notes)


def test_layers_with_no_place_for_it_are_named() -> None:
    torch.manual_seed(0)
    bare = nn.Sequential(nn.Flatten(), nn.Linear(784, 10, bias=False))
    ours = wb.compress(bare, "- quantize: {bits: 2}\n- correct_bias", "fashion_mnist")
    assert ours.notes == ("Not corrected, since they have neither bias nor BatchNorm: 1.",)


def test_after_channels_were_removed_it_still_fits() -> None:
    text = (
        "- prune: {granularity: filter, ratio: 0.3, scope: layer}\n- quantize: {bits: 4}\n- correct_bias: {images: 32}"
    )
    ours = wb.compress("resnet20", text, "fashion_mnist")
    assert all(bool(value.isfinite().all()) for value in ours.tensors.values())


def test_without_data_it_says_so() -> None:
    with pytest.raises(wb.WorkbenchError, match="Correcting biases needs calibration data"):
        wb.compress(ARCHITECTURES["lenet300"](), "- correct_bias", image_shape=SHAPE)


def test_images_are_of_all_classes_however_the_split_is_sorted() -> None:
    split = wb.load_dataset("fashion_mnist")["calibration"]
    seen = Context(split).mixed_images(100)
    classes = {int(split.labels[(split.images == image).flatten(1).all(1)][0]) for image in seen}
    assert classes == set(range(10))
    assert torch.equal(seen, Context(split).mixed_images(300)[:100])


@pytest.mark.parametrize("channels", [4, 6])
def test_a_batchnorm_over_rows_is_not_corrected_by_channels(channels: int) -> None:
    torch.manual_seed(0)
    data = wb.load_dataset("fashion_mnist")
    ours = wb.compress(Rows(channels).eval(), "- quantize: {bits: 2}\n- correct_bias: {images: 32, guard: false}", data)
    plain = wb.compress(Rows(channels).eval(), "- quantize: {bits: 2}", data)
    changed = {name for name in plain.tensors if not torch.equal(ours.tensors[name], plain.tensors[name])}
    assert "norm.running_mean" not in changed
