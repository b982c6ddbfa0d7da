"""The layer table against multiply-accumulates worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from workbench.models import LAYER_TYPES, ModelError, layers_of
from workbench.models.zoo import ARCHITECTURES, LeNet5, ResNet20


def only(module: nn.Module, shape: tuple[int, ...]):
    (layer,) = layers_of(module, shape)
    return layer


def test_lenet5_has_2_293_000_macs_layer_by_layer():
    layers = layers_of(LeNet5(), (1, 28, 28))
    assert [layer.name for layer in layers] == ["conv1", "conv2", "fc1", "fc2"]
    # 24×24×20 outputs of 5×5×1 products; 8×8×50 of 5×5×20; 500 of 800; 10 of 500.
    by_hand = [24 * 24 * 20 * 25, 8 * 8 * 50 * 25 * 20, 500 * 800, 10 * 500]
    assert [layer.macs for layer in layers] == by_hand
    assert sum(by_hand) == 2_293_000
    assert [layer.output_shape for layer in layers] == [(20, 24, 24), (50, 8, 8), (500,), (10,)]
    assert layers[0].activation_bytes == 4 * 20 * 24 * 24
    assert (layers[0].type, layers[0].weight, layers[0].shape) == ("Conv2d", "conv1.weight", (20, 1, 5, 5))


def test_resnet20_macs_at_28_and_32_pixels():
    def by_hand(side: int, channels: int) -> int:
        half, quarter = side // 2, side // 4
        stem = side**2 * 16 * 9 * channels
        stage1 = 6 * side**2 * 16 * 9 * 16
        stage2 = half**2 * 32 * (9 * 16 + 16) + 5 * half**2 * 32 * 9 * 32
        stage3 = quarter**2 * 64 * (9 * 32 + 32) + 5 * quarter**2 * 64 * 9 * 64
        return stem + stage1 + stage2 + stage3 + 640

    small = layers_of(ResNet20(), (1, 28, 28))
    assert sum(layer.macs for layer in small) == by_hand(28, 1) == 31_021_952
    large = layers_of(ResNet20(channels=3), (3, 32, 32))
    assert sum(layer.macs for layer in large) == by_hand(32, 3)
    assert len(small) == 22


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_layers_parameters_and_those_of_no_layer_are_all(name):
    module = ARCHITECTURES[name]()
    others = sum(
        parameter.numel()
        for part in module.modules()
        if not isinstance(part, LAYER_TYPES)
        for parameter in part.parameters(recurse=False)
    )
    total = sum(parameter.numel() for parameter in module.parameters())
    assert sum(layer.params for layer in layers_of(module, (1, 28, 28))) + others == total


def test_grouped_and_depthwise_convolutions_count_their_own_group_only():
    assert only(nn.Conv2d(8, 16, 3, padding=1, groups=2), (8, 10, 10)).macs == 10 * 10 * 16 * 9 * 4
    assert only(nn.Conv2d(8, 8, 3, padding=1, groups=8), (8, 10, 10)).macs == 10 * 10 * 8 * 9


def test_convolutions_of_one_and_three_dimensions():
    assert only(nn.Conv1d(4, 6, 5), (4, 20)).macs == 16 * 6 * 5 * 4
    assert only(nn.Conv3d(2, 3, 2), (2, 4, 4, 4)).macs == 27 * 3 * 8 * 2


def test_transposed_convolution_counts_each_input_pixel_into_each_kernel_place():
    layer = only(nn.ConvTranspose2d(6, 4, 3, stride=2, groups=2), (6, 5, 5))
    assert layer.macs == 5 * 5 * 6 * 9 * 2
    assert layer.output_shape == (4, 11, 11)


def test_linear_counts_every_token():
    layer = only(nn.Linear(32, 7), (9, 32))
    assert (layer.macs, layer.output_shape) == (9 * 32 * 7, (9, 7))


@pytest.mark.parametrize(("make", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_recurrent_layers_count_both_matrices_of_each_gate_at_each_step(make, gates):
    layer = only(make(12, 20, batch_first=True), (28, 12))
    assert layer.macs == 28 * gates * 20 * (12 + 20)
    assert layer.weights == ("weight_ih_l0", "weight_hh_l0")
    assert layer.output_shape == (28, 20)


def test_stacked_bidirectional_lstm():
    layer = only(nn.LSTM(12, 20, num_layers=2, bidirectional=True, batch_first=True), (5, 12))
    assert layer.macs == 5 * 2 * 4 * 20 * ((12 + 20) + (40 + 20))
    assert len(layer.weights) == 8


class Attends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x)[0]


def test_attention_is_one_layer_with_its_output_projection():
    layer = only(Attends(), (10, 16))
    # four projections of 10×16×16, then scores and mixing, 10×10×16 each
    assert layer.macs == 4 * 10 * 16 * 16 + 2 * 10 * 10 * 16
    assert layer.name == "attention"
    assert layer.weights == ("attention.in_proj_weight", "attention.out_proj.weight")
    assert layer.params == 4 * 16 * 16 + 4 * 16


def test_attention_inside_a_transformer_layer_is_seen():
    module = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    table = {layer.name: layer for layer in layers_of(module, (10, 16))}
    assert set(table) == {"self_attn", "linear1", "linear2"}
    assert table["self_attn"].macs == 4 * 10 * 16 * 16 + 2 * 10 * 10 * 16


class Embeds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 8)
        self.out = nn.Linear(8, 50, bias=False)
        self.out.weight = self.table.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.table(x.long()).mean(1))


def test_tied_weights_are_counted_once_and_go_by_one_name():
    table, out = layers_of(Embeds(), (6,))
    assert (table.type, table.macs, table.params) == ("Embedding", 0, 400)
    assert (out.params, out.weight, out.macs) == (0, "table.weight", 400)


class Reuses(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.late = nn.Linear(6, 2)
        self.again = nn.Linear(6, 6)
        self.alias = self.again
        self.never = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.late(self.again(self.alias(x)))


def test_a_shared_module_is_listed_once_in_call_order_with_the_macs_of_every_call():
    again, late, never = layers_of(Reuses(), (6,))
    assert (again.name, again.macs, again.activation_bytes) == ("again", 2 * 36, 2 * 24)
    assert late.name == "late"
    assert (never.name, never.macs, never.params, never.output_shape) == ("never", 0, 12, ())


def test_unknown_modules_pass():
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.ones(4, 4))

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.factor

    assert [layer.name for layer in layers_of(nn.Sequential(Scale(), nn.Linear(4, 2)), (4,))] == ["1"]


def test_the_module_is_left_as_it_was():
    module = ResNet20().train()
    module.stage1.eval()
    flags = [part.training for part in module.modules()]
    state = {name: value.clone() for name, value in module.state_dict().items()}
    layers_of(module, (1, 28, 28))
    assert [part.training for part in module.modules()] == flags
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def test_images_that_do_not_fit_are_told_in_one_sentence_and_leave_no_hooks():
    module = LeNet5()
    with pytest.raises(ModelError, match=r"LeNet5 does not run on images of shape \(3, 28, 28\): .*\.$"):
        layers_of(module, (3, 28, 28))
    assert not any(part._forward_hooks for part in module.modules())
