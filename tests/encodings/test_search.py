"""What is found for many tensors together is what each finds alone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from workbench.compression import compress
from workbench.encodings import (
    Ans,
    Bitmask,
    Encoding,
    EncodingError,
    Grid,
    Packed,
    encode_codebook,
    encode_grid,
    encode_grids,
    encode_values,
    search_codebook,
    search_values,
    together,
)
from workbench.encodings.blank import Whole
from workbench.encodings.choose import GridValues
from workbench.encodings.integers import BYTE_FILLING, pack_codes
from workbench.encodings.search import search_smallest
from workbench.encodings.smallest import JOINED_BYTES, NESTING_BYTES
from workbench.encodings.ways import Joint, tally


def whole(codes: np.ndarray, bits: int) -> Encoding:
    """Return the smallest encoding of all codes."""
    (found,) = together([search_smallest(Whole(codes, bits))])
    return found


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
        np.testing.assert_array_equal(np.trim_zeros(one.counts, "b"), other.counts)
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


@pytest.mark.parametrize("bits", range(1, 9))
def test_tensors_of_any_size_are_found_together_as_alone_and_come_back(bits: int) -> None:
    random = np.random.default_rng(bits)
    values = []
    zero = (1 << bits) // 2
    for size, kept in ((0, 1.0), (1, 1.0), (7, 0.5), (64, 0.0), (1001, 0.3), (5003, 0.05), (5003, 1.0), (20_000, 0.6)):
        codes = np.where(random.random(size) < kept, random.integers(0, 1 << bits, size), zero).astype(np.uint8)
        values.append(GridValues(codes, bits, np.float32(0.5), np.uint8(zero)))
    for found, one in zip(encode_grids(values), values, strict=True):
        alone = encode_grid(*one)
        assert (found.describe(), found.pack()) == (alone.describe(), alone.pack())
        assert found.nbytes == len(found.pack())
        assert found.entropy_bytes == pytest.approx(alone.entropy_bytes)
        np.testing.assert_array_equal(
            found.decode(), (one.codes.astype(np.float32) - np.float32(zero)) * np.float32(0.5)
        )


@pytest.mark.parametrize("bits", range(1, 8))
def test_codes_that_do_not_fit_are_refused_among_others_too(bits: int) -> None:
    fitting = GridValues(np.zeros(100, np.uint8), bits, np.float32(1), np.uint8(0))
    wrong = fitting._replace(codes=np.full(100, 1 << bits, np.uint8))
    with pytest.raises(EncodingError, match=f"codes from 0 to {1 << bits} do not fit in {bits} bits"):
        encode_grids([fitting, wrong, fitting])


@pytest.mark.parametrize("bits", [5, 6, 7, 8])
def test_codes_left_uncoded_since_a_mask_must_be_smaller_would_have_been_larger(bits: int) -> None:
    """Channels of weights drawn from one distribution, each with a grid of its own, pruned at random places."""
    random = np.random.default_rng(bits)
    skipped = 0
    for channels, size, ratio in itertools.product((8, 64), (36, 576), (0.1, 0.4, 0.7, 0.9)):
        weights = random.standard_normal((channels, size)).astype(np.float32)
        low, high = weights.min(1, keepdims=True), weights.max(1, keepdims=True)
        scale = (high - low) / ((1 << bits) - 1)
        zeros = np.rint(-low / scale)
        weights[np.abs(weights) <= np.quantile(np.abs(weights), ratio)] = 0
        codes = np.clip(np.rint(weights / scale) + zeros, 0, (1 << bits) - 1).astype(np.uint8)
        one = GridValues(codes, bits, scale[:, 0], zeros[:, 0].astype(np.uint8), 0)
        found, dense = encode_grid(*one).codes, whole(codes, bits)
        assert found.nbytes <= dense.nbytes
        skipped += isinstance(found, Bitmask)
    assert skipped > 8


@pytest.mark.parametrize("kind", ["float32", "float16"])
def test_floats_are_found_together_as_alone(kind: str) -> None:
    random = np.random.default_rng(0)
    values = []
    for shape, kept in (((0,), 1.0), ((3,), 0.0), ((40, 25), 0.5), ((64, 90), 0.03), ((64, 90), 1.0)):
        one = random.standard_normal(shape).astype(np.float32)
        values.append(np.where(random.random(shape) < kept, one, 0).astype(np.float32))
    rows = random.standard_normal((64, 90)).astype(np.float32)
    rows[::2] = 0
    values.append(rows)
    searches = [search_values(one, type=kind) for one in values]
    for one, found in zip(values, together(searches), strict=True):
        alone = encode_values(one, type=kind)
        assert (found.describe(), found.pack()) == (alone.describe(), alone.pack())
        np.testing.assert_array_equal(found.decode(), one.astype(kind))


@pytest.mark.parametrize(("ratio", "bits"), [(0.3, 3), (0.9, 7), (0.5, 8)])
def test_no_weight_of_a_trained_model_would_have_been_smaller_with_all_its_codes(ratio: float, bits: int) -> None:
    found = compress("resnet20", [{"prune": {"ratio": ratio}}, {"quantize": {"bits": bits}}], image_shape=(1, 28, 28))
    for name, codes in found.codes.items():
        grid = found.archive.tensors[name]
        assert isinstance(grid, Grid)
        assert grid.codes.nbytes <= whole(codes.codes.numpy(), bits).nbytes + 2 * NESTING_BYTES


@pytest.mark.parametrize("bits", range(1, 9))
def test_codes_of_many_tensors_are_counted_and_packed_as_one_by_one(bits: int) -> None:
    random = np.random.default_rng(bits)
    codes = [random.integers(0, 1 << bits, size).astype(np.uint8) for size in (0, 1, 5, 8, 63, 4097)]
    joint = Joint(codes, bits)
    for one, counts, packed in zip(codes, joint.counts(), joint.packed(bits), strict=True):
        np.testing.assert_array_equal(counts, np.bincount(one, minlength=1 << bits))
        assert packed.tobytes() == pack_codes(one, bits)
    if bits in BYTE_FILLING:
        places = np.array([1, 5])
        for place, counts in zip(places, joint.byte_counts(places), strict=True):
            packed = np.frombuffer(pack_codes(codes[place], bits), np.uint8)
            np.testing.assert_array_equal(counts, np.bincount(packed, minlength=256))
