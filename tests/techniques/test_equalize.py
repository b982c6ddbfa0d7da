"""Equalizing leaves what the model computes, and gives joined channels one range."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import workbench as wb
from workbench.models.chains import columns_of, find_pairs
from workbench.models.zoo import ARCHITECTURES

SHAPE = (1, 28, 28)


def uneven(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give every filter a range of its own, and BatchNorms statistics that differ from the default."""
    torch.manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            part.weight.data *= torch.exp(torch.randn(len(part.weight))).view(-1, *[1] * (part.weight.ndim - 1))
        if isinstance(part, nn.BatchNorm2d):
            part.weight.data.uniform_(-2, 2)
            part.bias.data.normal_()
            part.running_mean.normal_()
            part.running_var.uniform_(0.1, 3)
    return module.eval()


class Plain(nn.Module):
    """Two convolutions with biases, pooling, and a Linear that reads several places of each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 3), nn.Conv2d(6, 5, 3)
        self.pool, self.fc1, self.fc2 = nn.MaxPool2d(4), nn.Linear(5 * 36, 7), nn.Linear(7, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(torch.relu(self.conv2(torch.relu(self.conv1(x)))))
        return self.fc2(self.fc1(x.flatten(1)).relu())


def test_pairs_are_found_and_nothing_else() -> None:
    found = find_pairs(Plain().eval())
    assert [(pair.first, pair.second, pair.repeat) for pair in found] == [
        ("conv1", "conv2", 1), ("conv2", "fc1", 36), ("fc1", "fc2", 1),
    ]  # fmt: skip
    resnet = find_pairs(ARCHITECTURES["resnet20"]().eval())
    assert {(pair.first, pair.second) for pair in resnet} == {
        (f"stage{stage}.{block}.conv1", f"stage{stage}.{block}.conv2") for stage in (1, 2, 3) for block in (0, 1, 2)
    }
    mobile = find_pairs(ARCHITECTURES["mobilenetv2"]().eval())
    assert all(pair.first.endswith("project.0") for pair in mobile)  # a ReLU6 does not let factors pass


@pytest.mark.parametrize("name", ["lenet300", "lenet5", "resnet20", "mobilenetv2", "plain"])
def test_the_model_computes_the_same(name: str) -> None:
    module = uneven(Plain() if name == "plain" else ARCHITECTURES[name]())
    ours = wb.compress(module, "- equalize: {}", image_shape=SHAPE)
    images = torch.rand(4, *SHAPE)
    with torch.inference_mode():
        expected = module(images)
        found = ours.module(images)
    assert float((found - expected).abs().max()) < 1e-4 * float(expected.abs().max())
    assert any(not torch.equal(value, module.state_dict()[key]) for key, value in ours.tensors.items())


def test_joined_channels_have_one_range() -> None:
    module = uneven(Plain())
    ours = wb.compress(module, "- equalize: {rounds: 200}", image_shape=SHAPE)
    for pair in find_pairs(module):
        rows = ours.tensors[f"{pair.first}.weight"].flatten(1).abs().amax(1)
        columns = columns_of(ours.tensors[f"{pair.second}.weight"], pair).abs().amax(1)
        torch.testing.assert_close(rows, columns, rtol=0.02, atol=0)


@pytest.mark.parametrize("name", ["plain", "resnet20"])
def test_one_scale_for_a_layer_loses_less(name: str) -> None:
    module = uneven(Plain() if name == "plain" else ARCHITECTURES[name]())
    images = torch.rand(8, *SHAPE)
    with torch.inference_mode():
        expected = module(images)
        errors = []
        for before in ("", "- equalize: {}\n"):
            ours = wb.compress(module, f"{before}- quantize: {{bits: 6, per: tensor}}", image_shape=SHAPE)
            errors.append(float((ours.module(images) - expected).square().mean()))
    assert errors[1] < 0.7 * errors[0]


def test_dead_channels_stay_finite() -> None:
    module = uneven(Plain())
    module.conv1.weight.data[2] = 0
    module.conv2.weight.data[:, 3] = 0
    ours = wb.compress(module, "- equalize: {}", image_shape=SHAPE)
    assert all(bool(value.isfinite().all()) for value in ours.tensors.values())


def test_pruned_weights_stay_zero() -> None:
    text = "- prune: {ratio: 0.5}"
    alone, both = (wb.compress("resnet20", more, image_shape=SHAPE) for more in (text, f"{text}\n- equalize"))
    assert all(
        bool(((both.tensors[name] == 0) == (value == 0)).all())
        for name, value in alone.tensors.items()
        if value.ndim == 4
    )


def test_after_quantizing_it_says_why_not() -> None:
    with pytest.raises(wb.WorkbenchError, match="put equalize before quantize"):
        wb.compress("lenet300", "- quantize: {bits: 4}\n- equalize", image_shape=SHAPE)


def test_nothing_to_equalize_is_said() -> None:
    ours = wb.compress("lenet300", "- equalize: {layers: [fc1]}", image_shape=SHAPE)
    assert ours.notes == ("Nothing to equalize: no two of the layers are joined by a ReLU or less alone.",)


class Scripted(nn.Module):
    """Named parts, run by a function that a test writes."""

    def __init__(self, run: Callable[[Scripted, Tensor], Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


#: Models in which a Linear or a pooling acts on another axis than that of the channels before it, on (1, 4, 16) images.
OTHER_AXES: dict[str, Callable[[], nn.Module]] = {
    "conv_then_linear_over_width": lambda: Scripted(
        lambda m, x: m.out(m.fc(m.conv(x[:, 0]).relu()).flatten(1)),
        conv=nn.Conv1d(4, 8, 3, padding=1), fc=nn.Linear(16, 16), out=nn.Linear(128, 10),
    ),
    "flatten_from_axis_2": lambda: Scripted(
        lambda m, x: m.out(m.fc(m.conv(x).relu().flatten(2)).flatten(1)),
        conv=nn.Conv2d(1, 8, 3, padding=1), fc=nn.Linear(64, 16), out=nn.Linear(128, 10),
    ),
    "flatten_module_from_axis_2": lambda: Scripted(
        lambda m, x: m.out(m.fc(m.flatten(m.conv(x).relu())).flatten(1)),
        conv=nn.Conv2d(1, 8, 3, padding=1), flatten=nn.Flatten(2), fc=nn.Linear(64, 16), out=nn.Linear(128, 10),
    ),
    "linear_then_conv1d": lambda: Scripted(
        lambda m, x: m.out(m.conv(m.fc(x[:, 0]).relu()).flatten(1)),
        fc=nn.Linear(16, 4), conv=nn.Conv1d(4, 6, 3, padding=1), out=nn.Linear(24, 10),
    ),
    "pool_over_features": lambda: Scripted(
        lambda m, x: m.out(m.pool(m.fc(x[:, 0]).relu()).flatten(1)),
        fc=nn.Linear(16, 16), pool=nn.AvgPool1d(4), out=nn.Linear(16, 10),
    ),
    "pool_over_flattened": lambda: Scripted(
        lambda m, x: m.out(F.max_pool1d(m.conv(x).relu().flatten(1), 2)),
        conv=nn.Conv2d(1, 8, 3, padding=1), out=nn.Linear(256, 10),
    ),
    "mean_over_features": lambda: Scripted(
        lambda m, x: m.out(m.fc(x[:, 0]).relu().mean(-1)), fc=nn.Linear(16, 4), out=nn.Linear(4, 10),
    ),
}  # fmt: skip


@pytest.mark.parametrize("text", ["- equalize: {}", "- split: {ratio: 0.5}"])
@pytest.mark.parametrize("name", OTHER_AXES)
def test_layers_that_act_on_another_axis_are_left_alone(name: str, text: str) -> None:
    module = uneven(OTHER_AXES[name]())
    images = torch.rand(4, 1, 4, 16)
    found = wb.compress(module, text, image_shape=(1, 4, 16)).module
    with torch.inference_mode():
        torch.testing.assert_close(found(images), module(images), rtol=1e-4, atol=1e-4)


def test_channels_are_followed_through_flattening_in_two_steps_and_means() -> None:
    conv, out = nn.Conv2d(1, 8, 3, padding=1), nn.Linear(512, 10)
    assert find_pairs(Scripted(lambda m, x: m.out(m.conv(x).flatten(2).flatten(1)), conv=conv, out=out).eval())
    for axes in ((2, 3), [-1, -2]):
        short = Scripted(lambda m, x, axes=axes: m.out(m.conv(x).mean(axes)), conv=conv, out=nn.Linear(8, 10))
        assert [pair.repeat for pair in find_pairs(short.eval())] == [1]


class Rows(nn.Module):
    """A Linear of several rows an image, whose BatchNorm normalises the rows."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc, self.norm = nn.Linear(16, channels), nn.BatchNorm1d(4)
        self.next, self.out = nn.Linear(channels, 5), nn.Linear(20, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.next(self.norm(self.fc(x[:, 0, :4, :16])).relu()).flatten(1))


@pytest.mark.parametrize("text", ["- fold_batchnorm: {}", "- equalize: {}", "- split: {ratio: 0.5}"])
@pytest.mark.parametrize("channels", [4, 6])
def test_a_batchnorm_over_rows_is_not_taken_for_one_over_channels(channels: int, text: str) -> None:
    torch.manual_seed(0)
    module = Rows(channels)
    module.norm.running_mean.normal_()
    module.norm.running_var.uniform_(0.1, 3)
    module.norm.weight.data.uniform_(0.5, 2)
    found = wb.compress(module.eval(), text, image_shape=(1, 4, 16)).module
    images = torch.rand(4, 1, 4, 16)
    with torch.inference_mode():
        torch.testing.assert_close(found(images), module(images), rtol=1e-4, atol=1e-4)
