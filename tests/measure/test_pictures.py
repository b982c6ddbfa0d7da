"""Weights as images: every weight at its place, on one scale, zeros and removed channels told apart."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from workbench.measure.pictures import ABSENT, CLOSE_UP, LARGE, SMALL, Pictures, Room, WeightPair, picture_weights

SHAPES = [
    (64, 64, 3, 3), (16, 1, 3, 3), (960, 1, 3, 3), (50, 20, 5, 5), (8, 3, 7, 7), (500, 800), (10, 64), (1, 1),
    (1280, 320, 1, 1), (6, 4, 5), (4, 2, 3, 3, 3), (2, 1, 100, 100), (3, 0),
]  # fmt: skip


def pair(before: Tensor, after: Tensor | None = None, image: tuple[int, ...] | None = None) -> WeightPair:
    after = before if after is None else after
    return WeightPair("layer", before, after, torch.arange(len(after)), torch.arange(after.shape[1]), image=image)


def weights(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def values(
    codes: np.ndarray[tuple[int, ...], np.dtype[np.int8]], reach: float
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return codes.astype(np.float64) / 127 * reach


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("room", [LARGE, SMALL])
@pytest.mark.parametrize("close_up", [False, True])
def test_the_pages_hold_every_weight_once_in_few_bytes(shape: tuple[int, ...], room: Room, close_up: bool) -> None:
    weight = weights(*shape)
    layer = pair(weight)
    first = picture_weights(layer, close_up=close_up, room=room)
    shown = 0
    for page in range(first.pages):
        found = picture_weights(layer, page, close_up=close_up, room=room)
        assert found.page == page
        assert found.before.nbytes <= room.weights
        assert np.array_equal(found.before, found.after)
        shown += found.before.size
        if page > 40:
            return
    assert shown == max(0, math.prod(shape))


def test_kernels_stand_in_their_outputs_row_and_their_inputs_column() -> None:
    weight = weights(50, 20, 5, 5)
    found = picture_weights(pair(weight), page=1)
    assert found.kind == "kernels"
    window = weight[found.first_output :][: len(found.before), found.first_column :][:, : found.before.shape[1]]
    assert values(found.before, found.reach) == pytest.approx(window.numpy(), abs=found.reach / 127)


def test_a_layer_that_reads_the_image_has_an_image_for_each_output_and_channel() -> None:
    weight = weights(100, 3 * 8 * 6)
    found = picture_weights(pair(weight, image=(3, 8, 6)), page=1)
    assert found.kind == "images"
    window = weight[found.first_output :][: len(found.before)].reshape(-1, 3, 8, 6)
    assert values(found.before, found.reach) == pytest.approx(window.numpy(), abs=found.reach / 127)


def test_close_up_the_inputs_stand_side_by_side_for_each_place_in_the_kernel() -> None:
    weight = weights(20, 8, 3, 3)
    found = picture_weights(pair(weight), page=1, close_up=True)
    assert found.before.shape == (CLOSE_UP[0], 1, 1, CLOSE_UP[1])
    assert found.first_column == CLOSE_UP[1]
    for row, column in ((0, 0), (3, 17), (15, 31)):
        place, channel = divmod(found.first_column + column, 8)
        expected = float(weight[row, channel].flatten()[place])
        assert values(found.before, found.reach)[row, 0, 0, column] == pytest.approx(expected, abs=found.reach / 127)


def test_only_zeros_are_coded_as_zero_and_the_scale_is_that_of_before() -> None:
    before = torch.tensor([[1.0, -1.0, 1e-9, -1e-9, 0.0, 0.5]])
    after = torch.tensor([[3.0, 0.0, 1e-9, -0.0, 0.0, -0.25]])
    found = picture_weights(pair(before, after))
    assert found.reach == 1
    assert found.before.flatten().tolist() == [127, -127, 1, -1, 0, 64]
    assert found.after.flatten().tolist() == [127, 0, 1, 0, 0, -32]


def test_removed_outputs_and_inputs_are_absent_and_the_rest_keeps_its_place() -> None:
    before = weights(6, 5, 3, 3)
    outputs, inputs = torch.tensor([0, 2, 5]), torch.tensor([1, 4])
    after = before[outputs][:, inputs]
    found = picture_weights(WeightPair("conv", before, after, outputs, inputs))
    kept = np.zeros((6, 5), bool)
    kept[np.ix_(outputs.numpy(), inputs.numpy())] = True
    assert np.array_equal(found.after[kept], found.before[kept])
    assert np.all(found.after[~kept] == ABSENT)
    assert not np.any(found.before == ABSENT)


@pytest.mark.parametrize("value", [0.0, 0.25, float("nan"), float("inf")])
def test_weights_of_one_value_are_drawn(value: float) -> None:
    found = picture_weights(pair(torch.full((4, 5), value)))
    expected = {0.0: 0, 0.25: 127, math.inf: 127}.get(value, ABSENT)
    assert set(found.before.flatten().tolist()) == {expected}
    assert math.isfinite(found.reach)


def test_a_page_that_is_not_there_is_the_last_one() -> None:
    found: Pictures = picture_weights(pair(weights(64, 64, 3, 3)), page=99)
    assert found.page == found.pages - 1
