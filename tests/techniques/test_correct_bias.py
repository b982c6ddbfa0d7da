"""Corrected layers give, in the mean, what they gave before compression."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import workbench as wb
from workbench.models.zoo import ARCHITECTURES
from workbench.techniques.draft import Context

SHAPE = (1, 28, 28)


def means(module: nn.Module, name: str, images: torch.Tensor) -> torch.Tensor:
    found: list[torch.Tensor] = []
    handle = module.get_submodule(name).register_forward_hook(lambda *call: found.append(call[2]))
    with torch.inference_mode():
        module(images)
    handle.remove()
    return found[0].transpose(0, 1).flatten(1).mean(1)


@pytest.mark.parametrize(("name", "layers"), [
    ("lenet5", ("conv1", "conv2", "fc1", "fc2")),
    ("resnet20", ("stage2.0.bn1", "stage3.1.bn1")),
])  # fmt: skip
@pytest.mark.parametrize("step", ["- quantize: {bits: 2}", "- prune: {ratio: 0.6}"])
def test_means_are_what_they_were(name: str, layers: tuple[str, ...], step: str) -> None:
    data, model = wb.load_dataset("fashion_mnist"), wb.load_model(name)
    ours = wb.compress(model, f"{step}\n- correct_bias: {{images: 64}}", data)
    plain = wb.compress(model, step, data)
    seen = Context(data["calibration"]).mixed_images(64)
    images = (model.normalization or data.normalization)(seen)
    for layer in layers:
        wanted, corrected, shifted = (means(item, layer, images) for item in (model.module, ours.module, plain.module))
        assert float((corrected - wanted).abs().max()) < 1e-3 * float(wanted.abs().max())
        assert float((shifted - wanted).abs().max()) > 5e-3 * float(wanted.abs().max())


def test_only_biases_and_running_means_change() -> None:
    step = "- quantize: {bits: 3}"
    plain, ours = (wb.compress("resnet20", text, "fashion_mnist") for text in (step, f"{step}\n- correct_bias"))
    changed = {name for name, value in ours.tensors.items() if not torch.equal(value, plain.tensors[name])}
    assert changed
    assert all(name.endswith(("bias", "running_mean")) for name in changed)
    assert ours.codes.keys() == plain.codes.keys()


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
