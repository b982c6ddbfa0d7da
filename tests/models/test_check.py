"""Each thing that makes a model unusable is told in a sentence of its own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from workbench.models import ModelError, check_model, require_model
from workbench.models.zoo import ARCHITECTURES, LeNet5, ResNet20

SHAPE = (1, 28, 28)


def sentence(module: nn.Module, shape: tuple[int, ...] = SHAPE, classes: int | None = 10) -> str:
    (said,) = check_model(module, shape, classes)
    assert said.endswith(".")
    assert "\n" not in said
    return said


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_zoo_has_no_problem(name):
    assert check_model(ARCHITECTURES[name](), SHAPE, [str(digit) for digit in range(10)]) == ()
    require_model(ARCHITECTURES[name](), SHAPE, 10)


@pytest.mark.parametrize(("value", "word"), [(float("nan"), "NaN"), (float("inf"), "infinite")])
def test_the_tensor_with_numbers_that_are_not_finite_is_named(value, word):
    module = LeNet5()
    with torch.no_grad():
        module.conv2.weight[3, 1, 0, 0] = value
    said = sentence(module)
    assert f"'conv2.weight' (1 of 25,000 values, {word})" in said


def test_damaged_batchnorm_statistics_count_as_weights():
    module = ResNet20()
    module.stage2[1].bn2.running_var[0] = float("nan")
    assert "'stage2.1.bn2.running_var'" in sentence(module)


def test_a_model_without_layers_to_compress():
    said = sentence(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(784)))
    assert "no layer that can be pruned or quantized" in said
    assert "BatchNorm1d, Flatten" in said


def test_a_model_with_several_inputs_names_them():
    class Two(LeNet5):
        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return super().forward(x * mask)

    assert "Two takes 2 inputs (x, mask)" in sentence(Two())


def test_an_input_with_a_default_is_no_second_input():
    class Optional(LeNet5):
        def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
            return super().forward(x)

    assert check_model(Optional(), SHAPE, 10) == ()


@pytest.mark.parametrize(
    ("wrap", "told"),
    [
        (lambda y: (y, y), "returns a tuple of 2"),
        (lambda y: {"logits": y}, "returns a dict of 1"),
        (lambda y: y[0], r"returns a tensor of shape (10,)"),
        (lambda y: y[:, :, None], r"returns a tensor of shape (1, 10, 1)"),
    ],
)
def test_outputs_that_are_not_one_tensor_of_logits(wrap, told):
    class Wrapped(LeNet5):
        def forward(self, x: Tensor):
            return wrap(super().forward(x))

    assert told in sentence(Wrapped())


def test_a_model_that_takes_only_one_image_at_a_time():
    class One(LeNet5):
        def forward(self, x: Tensor):
            return super().forward(x.reshape(1, 1, 28, 28))

    class Flat(nn.Sequential):
        def forward(self, x: Tensor):
            return super().forward(x.reshape(1, -1, 784).mean(1))

    assert "One takes one image at a time" in sentence(One())
    assert "Flat takes one image at a time" in sentence(Flat(nn.Linear(784, 10)))


def test_images_with_the_wrong_number_of_channels():
    assert "takes images of 1 channel, and these have 3 channels" in sentence(ResNet20(), (3, 28, 28))


def test_images_of_the_wrong_size():
    said = sentence(LeNet5(), (1, 32, 32))
    assert "does not run on images of shape (1, 32, 32)" in said
    assert "another size" in said


def test_other_classes_than_the_data_has():
    assert "tells 10 classes apart, and the dataset has 7" in sentence(ResNet20(), SHAPE, 7)


def test_require_model_raises_the_first_sentence():
    with pytest.raises(ModelError, match="tells 10 classes apart"):
        require_model(ResNet20(), SHAPE, 7)


def test_checking_leaves_the_module_as_it_was():
    module = ResNet20().train()
    check_model(module, SHAPE, 10)
    assert all(part.training for part in module.modules())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
