from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.encodings import EncodingError, Grid, Packed, encode_grid, unpack

torch = pytest.importorskip("torch")

seeds = st.integers(0, 2**32 - 1)


def weights_and_grid(seed: int, bits: int, channels: int | None, low: int) -> tuple[np.ndarray, ...]:
    """Weights, and scales and zero points (for codes from `low` to low + 2**bits - 1) that fit them."""
    generator = np.random.default_rng(seed)
    values = generator.standard_normal((5, 3, 4)).astype(np.float32) * np.float32(generator.uniform(1e-3, 10))
    count = channels or 1
    scale = generator.uniform(0.01, 1, count).astype(np.float32)
    zero_point = generator.integers(low, low + 2**bits, count, np.int32)
    return values, scale, zero_point


def codes_of(values, scale, zero_point, low: int, bits: int) -> np.ndarray:
    """Round as torch does: to nearest even, of the value times the reciprocal of the scale."""
    codes = np.rint(values * (np.float32(1) / scale) + zero_point.astype(np.float32)).astype(np.int64)
    return (codes.clip(low, low + 2**bits - 1) - low).astype(np.uint8)


@settings(deadline=None, max_examples=150)
@given(seeds, st.integers(1, 8), st.booleans())
def test_decoding_equals_fake_quantize_per_tensor(seed: int, bits: int, signed: bool) -> None:
    low = -(2 ** (bits - 1)) if signed else 0
    values, scale, zero = weights_and_grid(seed, bits, None, low)
    expected = torch.fake_quantize_per_tensor_affine(
        torch.from_numpy(values), float(scale[0]), int(zero[0]), low, low + 2**bits - 1
    ).numpy()
    grid = encode_grid(codes_of(values, scale, zero, low, bits), bits, scale[0], int(zero[0]) - low)
    assert grid.decode().tobytes() == expected.tobytes()


@settings(deadline=None, max_examples=150)
@given(seeds, st.integers(1, 8), st.booleans(), st.integers(0, 2))
def test_decoding_equals_fake_quantize_per_channel(seed: int, bits: int, signed: bool, axis: int) -> None:
    low = -(2 ** (bits - 1)) if signed else 0
    values, scale, zero = weights_and_grid(seed, bits, (5, 3, 4)[axis], low)
    tensors = (torch.from_numpy(array) for array in (values, scale, zero))
    expected = torch.fake_quantize_per_channel_affine(*tensors, axis, low, low + 2**bits - 1).numpy()
    shape = [-1 if i == axis else 1 for i in range(3)]
    codes = codes_of(values, scale.reshape(shape), zero.reshape(shape), low, bits)
    grid = encode_grid(codes, bits, scale, zero - low, axis)
    again = unpack(grid.describe(), grid.shape, grid.pack())
    assert grid.decode().tobytes() == again.decode().tobytes() == expected.tobytes()


@settings(deadline=None, max_examples=100)
@given(seeds, st.integers(1, 8), st.sampled_from([0.05, 0.5, 0.95]))
def test_pruned_weights_decode_to_exactly_plus_zero(seed: int, bits: int, share: float) -> None:
    generator = np.random.default_rng(seed)
    codes = generator.integers(0, 2**bits, (40, 50), np.uint8)
    mask = generator.random(codes.shape) < share
    scale = generator.uniform(0.01, 1, 40).astype(np.float32)
    zero = generator.integers(0, 2**bits, 40)
    grid = encode_grid(codes, bits, scale, zero, 0, mask)
    expected = (codes.astype(np.float32) - zero[:, None].astype(np.float32)) * scale[:, None]
    expected[~mask] = 0.0
    again = unpack(grid.describe(), grid.shape, grid.pack())
    assert grid.decode().tobytes() == again.decode().tobytes() == expected.tobytes()


def test_equal_zero_points_cost_nothing_and_others_their_width() -> None:
    codes = Packed(np.zeros((32, 8), np.uint8), 4)
    scale = np.ones(32, np.float32)
    alone = codes.nbytes + 32 * 4
    assert Grid.of(codes, scale, 8, 0).nbytes == alone
    assert Grid.of(codes, scale, np.full(32, 8), 0).nbytes == alone
    assert Grid.of(codes, scale, np.arange(32) % 16, 0).nbytes == alone + 32 * 4 // 8


def test_grids_that_do_not_fit_are_refused_in_a_sentence() -> None:
    codes = Packed(np.zeros((4, 8), np.uint8), 4)
    with pytest.raises(EncodingError, match="4 channels"):
        Grid.of(codes, np.ones(3), 0, 0)
    with pytest.raises(EncodingError, match="no channel axis 2"):
        Grid.of(codes, np.ones(4), 0, 2)
    with pytest.raises(EncodingError, match="codes themselves"):
        Grid.of(codes, 1.0, -8)
    with pytest.raises(EncodingError, match="integers"):
        Grid.of(codes, 1.0, 0.5)
    with pytest.raises(EncodingError, match="do not fit in 4 bits"):
        encode_grid(np.zeros((4, 8), np.uint8), 4, 1.0, 16)
