"""Counts, entropies and tables found for many tensors together are those that each finds alone."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.encodings import (
    Ans,
    Packed,
    encode_codebook,
    encode_grid,
    encode_grids,
    encode_values,
    search_codebook,
    search_values,
    together,
)
from workbench.encodings.choose import GridValues
from workbench.encodings.integers import BYTE_FILLING
from workbench.encodings.tally import JOINED_BYTES, tally


def tensors(bits: int) -> list[Packed]:
    random = np.random.default_rng(bits)
    most = (1 << bits) - 1
    codes = [random.binomial(most, 0.5, size) for size in (1, 7, 64, 4 * 8 * JOINED_BYTES // bits + 3)]
    codes += [np.full(100, most), np.zeros(50), random.integers(0, most + 1, 3000), np.zeros(0)]
    return [Packed(each.astype(np.uint8), bits) for each in codes]


@pytest.mark.parametrize("bits", range(1, 9))
def test_what_is_found_together_is_what_each_finds_alone(bits: int) -> None:
    tallied, alone = tensors(bits), tensors(bits)
    tally(tallied)
    assert "counts" in tallied[0].__dict__
    for one, other in zip(tallied, alone, strict=True):
        np.testing.assert_array_equal(one.counts, other.counts)
        assert one.entropy_bytes == other.entropy_bytes
        for joined in (False, True) if bits in BYTE_FILLING else (False,):
            coded, expected = Ans(one, joined), Ans(other, joined)
            assert coded.nbytes == expected.nbytes
            assert coded.pack() == expected.pack()


@pytest.mark.parametrize("zero", [0, "middle", "channels"])
@pytest.mark.parametrize("bits", [2, 4, 7, 8])
def test_grids_are_encoded_together_as_they_are_alone(bits: int, zero: int | str) -> None:
    random = np.random.default_rng(bits)
    values = []
    for channels, size, kept in ((4, 9, 0.5), (16, 144, 0.1), (32, 288, 0.9), (8, 800, 1.0)):
        shape = (channels, size)
        zeros = np.full(channels, 1 << bits >> 1 if zero == "middle" else 0, np.uint8)
        if zero == "channels":
            zeros = random.integers(0, 1 << bits, channels).astype(np.uint8)
        codes = random.binomial((1 << bits) - 1, 0.5, shape).astype(np.uint8)
        codes = np.where(random.random(shape) < kept, codes, zeros[:, None])
        scale = random.random(channels).astype(np.float32)
        values.append(GridValues(codes, bits, scale, zeros, 0))
    for found, one in zip(encode_grids(values), values, strict=True):
        alone = encode_grid(*one)
        assert found.describe() == alone.describe()
        assert found.pack() == alone.pack()
        np.testing.assert_array_equal(found.decode(), alone.decode())


@pytest.mark.parametrize("entries", [4, 15, 32])
def test_searches_in_step_choose_what_each_chooses_alone(entries: int) -> None:
    random = np.random.default_rng(entries)
    books = random.random((1, entries)).astype(np.float32)
    codebooks, values = [], []
    for size, kept in ((30, 0.5), (900, 0.1), (9000, 0.6), (9000, 1.0)):
        left = random.random(size) < kept
        codebooks.append(np.where(left, random.integers(0, entries, size), entries).astype(np.uint8))
        values.append(np.where(left, random.standard_normal(size), 0).astype(np.float32))
    searches = [*(search_codebook(codes, books, None, 1) for codes in codebooks), *map(search_values, values)]
    alone = [*(encode_codebook(codes, books) for codes in codebooks), *map(encode_values, values)]
    steps = []
    for one, other in zip(together(searches, lambda: steps.append(None)), alone, strict=True):
        assert one.describe() == other.describe()
        assert one.pack() == other.pack()
    assert len(steps) > len(searches)
