"""Learned rounding changes outputs less than rounding to nearest, and where little is to be learned, not at all."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import workbench as wb
from workbench.models.zoo import ARCHITECTURES
from workbench.techniques.base import Cost
from workbench.techniques.quantize.rounding import damped, error, round_by_elimination, round_by_learning, sound

SHAPE = (1, 28, 28)


def problem(outputs: int, columns: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights, correlated second moments, and the step and zero of a 3-bit grid, spread to the weights' shape."""
    torch.manual_seed(seed)
    weight = torch.randn(outputs, columns)
    inputs = torch.randn(columns, 4) @ torch.randn(4, 500) + 0.3 * torch.randn(columns, 500)
    scale = (weight.amax(1) - weight.amin(1))[:, None].expand(weight.shape) / 7
    zero = (-weight.amin(1)[:, None] / scale).round()
    return weight, inputs @ inputs.T / 500, scale, zero


def decoded(codes: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    return (codes - zero) * scale


def learn(weight: Tensor, second: Tensor, scale: Tensor, zero: Tensor, frozen: Tensor | None = None) -> Tensor:
    return round_by_learning(weight, second, scale, zero, 3, frozen, 400, lambda: None)


def eliminate(weight: Tensor, second: Tensor, scale: Tensor, zero: Tensor, frozen: Tensor | None = None) -> Tensor:
    return round_by_elimination(weight, second, scale, zero, 3, frozen)


@pytest.mark.parametrize("method", [eliminate, learn])
def test_inputs_that_do_not_correlate_leave_the_nearest(method) -> None:
    weight, _, scale, zero = problem(5, 20, 0)
    nearest = (weight / scale).round().add(zero).clamp(0, 7)
    assert torch.equal(method(weight, torch.eye(20), scale, zero), nearest)


@pytest.mark.parametrize("method", [eliminate, learn])
def test_correlated_inputs_lose_less_than_half_of_the_nearests(method) -> None:
    weight, second, scale, zero = problem(20, 40, 1)
    nearest = (weight / scale).round().add(zero).clamp(0, 7)
    ours = error(decoded(method(weight, second, scale, zero), scale, zero) - weight, second)
    plain = error(decoded(nearest, scale, zero) - weight, second)
    assert ours.sum() < 0.5 * plain.sum()


def test_learning_comes_near_the_best_of_all_ways_up_and_down() -> None:
    weight, second, scale, zero = problem(6, 9, 2)
    floor = (weight / scale).floor() + zero
    choices = torch.tensor(list(itertools.product((0, 1), repeat=9)))
    every = [error(decoded((floor + up).clamp(0, 7), scale, zero) - weight, damped(second)) for up in choices]
    best = torch.stack(every).amin(0)
    ours = error(decoded(learn(weight, second, scale, zero), scale, zero) - weight, damped(second))
    assert bool((ours >= best * (1 - 1e-4)).all())
    assert ours.sum() < 2 * best.sum()


@pytest.mark.parametrize("method", [eliminate, learn])
def test_frozen_weights_stay_zero(method) -> None:
    weight, second, scale, zero = problem(4, 12, 3)
    frozen = torch.rand(4, 12) < 0.5
    codes = method(weight.masked_fill(frozen, 0), second, scale, zero, frozen)
    assert bool((decoded(codes, scale, zero)[frozen] == 0).all())


@pytest.mark.parametrize("rounding", ["gptq", "adaround, iterations: 60"])
@pytest.mark.parametrize("more", ["", ", per: group, group_size: 100", ", per: tensor, scheme: symmetric"])
def test_outputs_change_less_than_by_the_nearest(rounding: str, more: str, tmp_path: Path) -> None:
    data = wb.load_dataset("fashion_mnist")
    model = wb.load_model("lenet300")
    text = f"- quantize: {{bits: 2, range: mse{more}"
    plain = wb.compress(model, f"{text}}}", data)
    ours = wb.compress(model, f"{text}, rounding: {rounding}}}", data)
    images = data.normalization(data["test"].images[:500])
    with torch.inference_mode():
        wanted = model.module(images)
        errors = [(item.module(images) - wanted).square().mean() for item in (ours, plain)]
    assert errors[0] < 0.5 * errors[1]
    path = ours.save(tmp_path / "small.wbz")
    assert path.stat().st_size == ours.nbytes
    loaded = wb.load_compressed(path)
    assert all(torch.equal(value, ours.tensors[key]) for key, value in loaded.module.state_dict().items())


def test_pruned_weights_stay_zero() -> None:
    text = "- prune: {ratio: 0.8}\n"
    alone = wb.compress("lenet300", text, image_shape=SHAPE)
    both = wb.compress("lenet300", f"{text}- quantize: {{bits: 3, rounding: gptq, images: 64}}", "fashion_mnist")
    for name, value in alone.tensors.items():
        if value.ndim == 2:
            assert bool((both.tensors[name][value == 0] == 0).all())


def test_layers_that_cannot_be_learned_are_named() -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.ConvTranspose2d(1, 2, 3)
            self.head = nn.Linear(2 * 30 * 30, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.up(x).flatten(1))

    torch.manual_seed(0)
    ours = wb.compress(Turned().eval(), "- quantize: {bits: 4, rounding: gptq, images: 16}", "fashion_mnist")
    assert [layer.bits for layer in ours.layers] == [4, 4]
    assert ours.notes == ("Rounded to nearest, since learning is for layers that are one matrix product: up.",)


@pytest.mark.parametrize("rounding", ["gptq", "adaround, iterations: 20"])
def test_inputs_that_never_vary_are_no_trouble(rounding: str) -> None:
    """A layer of zeros gives its bias for every image: what is left of the second moments is rounding."""
    torch.manual_seed(0)
    layers = [nn.Flatten(), nn.Linear(784, 16), nn.Linear(16, 10)]
    nn.init.zeros_(layers[1].weight)  # type: ignore[arg-type]
    module = nn.Sequential(*layers).eval()
    ours = wb.compress(module, f"- quantize: {{bits: 3, rounding: {rounding}, images: 64}}", "fashion_mnist")
    images = torch.randn(2, *SHAPE)
    torch.testing.assert_close(ours.module(images), module(images), atol=0.02, rtol=0)


def test_without_data_it_says_so() -> None:
    with pytest.raises(wb.WorkbenchError, match="Rounding by adaround needs calibration data"):
        wb.compress(ARCHITECTURES["lenet300"](), "- quantize: {bits: 4, rounding: adaround}", image_shape=SHAPE)
    with pytest.raises(wb.WorkbenchError, match="format kmeans has none, use rounding nearest"):
        wb.Recipe.parse("- quantize: {bits: 3, format: kmeans, rounding: gptq}")
    with pytest.raises(wb.WorkbenchError, match="gptq rounding is for integers of 1 to 8 bits, not for 6-bit fixed"):
        wb.Recipe.parse("- quantize: {bits: 6, format: fixed, rounding: gptq}")


def test_learned_rounding_is_calibrated() -> None:
    assert wb.Recipe.parse("- quantize: {bits: 4, rounding: gptq}").cost == Cost.CALIBRATED
    assert wb.Recipe.parse("- quantize: {bits: 4, rounding: stochastic}").cost == Cost.LIVE


class FarOff(nn.Module):
    """A Linear whose inputs vary little about a large mean, and are there several times."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.out = nn.Linear(112, 32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)[:, 300:328] * 0.01 + 1e4
        return self.out(self.fc(x.repeat(1, 4)).relu())


@pytest.mark.parametrize("rounding", ["gptq", "adaround, iterations: 20"])
def test_inputs_whose_moments_are_noise_are_rounded_all_the_same(rounding: str) -> None:
    torch.manual_seed(0)
    text = f"- quantize: {{bits: 8, rounding: {rounding}, images: 64}}"
    module = FarOff().eval()
    ours = wb.compress(module, text, wb.load_dataset("fashion_mnist"))
    assert all(bool(tensor.isfinite().all()) for tensor in ours.tensors.values())
    images = torch.rand(8, *SHAPE)
    with torch.inference_mode():
        torch.testing.assert_close(ours.module(images), module(images), rtol=0.02, atol=1.0)


def test_moments_that_are_positive_definite_stay_what_they_are() -> None:
    _, second, _, _ = problem(5, 20, 4)
    assert sound(second) is second
    assert int(torch.linalg.cholesky_ex(damped(sound(second - 3 * torch.eye(20)))).info) == 0


class Flattening(nn.Linear):
    """A whole model that is one layer with a forward of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(1))


def test_a_layer_with_a_forward_of_its_own_is_rounded_to_nearest_and_corrected() -> None:
    torch.manual_seed(0)
    data, module = wb.load_dataset("fashion_mnist"), Flattening(784, 10).eval()
    ours = wb.compress(module, "- quantize: {bits: 3, rounding: gptq, images: 32}", data)
    assert any(note.startswith("Rounded to nearest, since learning is for layers") for note in ours.notes)
    corrected = wb.compress(module, "- quantize: {bits: 2}\n- correct_bias: {images: 32, guard: false}", data)
    assert not torch.equal(corrected.tensors["bias"], module.bias)


class Tied(nn.Module):
    """Two Linears with one weight and biases of their own; or an Embedding whose weight the output reads."""

    def __init__(self, embedding: bool) -> None:
        super().__init__()
        self.embedding = embedding
        self.first = nn.Embedding(10, 16) if embedding else nn.Linear(16, 16)
        self.second, self.out = nn.Linear(16, 10 if embedding else 16), nn.Linear(10 if embedding else 16, 10)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)[:, 300:316]
        x = self.first((x * 9).long().clamp(0, 9)).mean(1) if self.embedding else self.first(x).relu()
        return self.out(self.second(x).relu())


@pytest.mark.parametrize("embedding", [False, True])
@pytest.mark.parametrize("text", [
    "- quantize: {bits: 3, rounding: gptq, images: 32}",
    "- quantize: {bits: 3, rounding: adaround, iterations: 20, images: 32}",
    "- quantize: {bits: 3}\n- correct_bias: {images: 32, guard: false}",
])  # fmt: skip
def test_tied_layers_keep_biases_of_their_own(text: str, embedding: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    data, module = wb.load_dataset("fashion_mnist"), Tied(embedding).eval()
    ours = wb.compress(module, text, data)
    if "rounding" in text:
        assert any("another layer's too: first, second." in note for note in ours.notes)
        for name in ("second.bias", *(() if embedding else ("first.bias",))):
            assert torch.equal(ours.tensors[name], module.state_dict()[name])
        assert not torch.equal(ours.tensors["out.bias"], module.out.bias)
    else:
        assert not torch.equal(ours.tensors["second.bias"], module.second.bias)
    again = wb.load_compressed(ours.save(tmp_path / "tied.wbz"), model=module).module
    images = data["calibration"].images[:4].float() / 255
    with torch.inference_mode():
        assert torch.equal(again(images), ours.module(images))
