"""Tables of values: those that follow from a name, and those that travel with the tensor."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.encodings.strategies import encode_levels
from workbench.encodings import EncodingError, Levels, Packed, encode_grid, unpack
from workbench.encodings.slices import slice_count, spread
from workbench.encodings.tables import NF4, named_table
from workbench.techniques.quantize.tables import normal_quantiles


@pytest.mark.parametrize(("name", "dtype"), [("e4m3", torch.float8_e4m3fn), ("e5m2", torch.float8_e5m2)])
def test_short_floats_by_pattern_are_torchs(name: str, dtype: torch.dtype) -> None:
    expected = torch.arange(256, dtype=torch.uint8).view(dtype).float().nan_to_num(0, 0, 0)
    assert np.array_equal(named_table(name), expected.numpy())


def test_normal_quantiles_at_four_bits_are_the_published_nf4() -> None:
    np.testing.assert_allclose(normal_quantiles(4), NF4, atol=2e-7)


def test_powers_of_two_and_their_sums() -> None:
    assert named_table("pot3").tolist() == [-1, -0.5, -0.25, 0, 0.25, 0.5, 1]
    # Li et al. 2020, section 2.2: 4 bits of magnitude are two terms of two bits, {0, 1, 1/4, 1/16} + {0, 1/2, ...}
    terms = [[0, 2**-1, 2**-3, 2**-5], [0, 2**-2, 2**-4, 2**-6]]
    sums = sorted({(a + b) / (2**-1 + 2**-2) for a in terms[0] for b in terms[1]})
    np.testing.assert_allclose(named_table("apot5")[15:], sums, rtol=1e-6)
    assert [len(named_table(f"apot{bits}")) for bits in range(2, 9)] == [2**bits - 1 for bits in range(2, 9)]


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("group", [None, 1, 4, 5, 100])
def test_a_groups_scale_reaches_its_weights(axis: int, group: int | None) -> None:
    shape = (3, 4, 5)
    count = slice_count(shape, axis, group)
    values = np.arange(count, dtype=np.float32)
    found = np.broadcast_to(spread(values, shape, axis, group), shape)
    channels = np.moveaxis(found, axis, 0).reshape(shape[axis], -1)
    for channel, row in enumerate(channels):
        per_channel = count // shape[axis]
        expected = [channel * per_channel + (0 if group is None else place // group) for place in range(len(row))]
        assert row.tolist() == expected


def test_grouped_grids_come_back() -> None:
    codes = np.random.default_rng(0).integers(0, 16, (6, 5, 3), dtype=np.uint8)
    scale = np.random.default_rng(1).uniform(0.1, 1, 6 * 4).astype(np.float32)
    zeros = np.random.default_rng(2).integers(0, 16, 6 * 4).astype(np.uint8)
    grid = encode_grid(codes, 4, scale, zeros, 0, group=4)
    expected = (codes - spread(zeros, codes.shape, 0, 4).astype(np.float32)) * spread(scale, codes.shape, 0, 4)
    again = unpack(grid.describe(), codes.shape, grid.pack())
    assert grid.decode().tobytes() == again.decode().tobytes() == np.ascontiguousarray(expected).tobytes()


def test_weights_left_out_are_zero_in_a_table_without_one() -> None:
    kept = np.random.default_rng(0).random((40, 50)) < 0.1
    codes = np.random.default_rng(1).integers(0, 2, kept.shape, dtype=np.uint8)
    ours = encode_levels(codes, 1, "sign", np.full(1, 0.5, np.float32), kept=kept)
    assert np.array_equal(ours.decode(), np.where(kept, codes - np.float32(0.5), 0))
    assert ours.nbytes < kept.size / 8 * 0.7


@pytest.mark.parametrize("table", ["none", np.zeros((2, 2), np.float32), np.zeros(0, np.float32)])
def test_tables_that_are_none_are_refused(table: str | np.ndarray) -> None:
    with pytest.raises(EncodingError):
        Levels(Packed(np.zeros(3, np.uint8), 2), table, np.ones(1, np.float32))


def test_damaged_tables_are_refused() -> None:
    ours = encode_levels(np.arange(4, dtype=np.uint8), 2, np.arange(4, dtype=np.float32), np.ones(1, np.float32))
    for data in (b"", ours.pack()[:-1], ours.pack() + b"x"):
        with pytest.raises(EncodingError):
            unpack(ours.describe(), (4,), data)
    beyond = encode_levels(np.full(4, 3, np.uint8), 2, np.arange(2, dtype=np.float32), np.ones(1, np.float32))
    with pytest.raises(EncodingError, match="beyond a table of 2"):
        beyond.decode()
