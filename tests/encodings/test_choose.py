from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.encodings.strategies import codes, masks, shapes, widths
from workbench.encodings import (
    Bitmask,
    Dense,
    Encoding,
    EncodingError,
    Entropy,
    Packed,
    RelativeIndex,
    encode_codes,
    encode_grid,
    encode_values,
    entropy_bound_bytes,
    unpack,
)
from workbench.encodings.smallest import NESTING_BYTES

RESNET20 = [
    (16, 1, 3, 3),
    *[(16, 16, 3, 3)] * 6,
    (32, 16, 3, 3),
    *[(32, 32, 3, 3)] * 5,
    (32, 16, 1, 1),
    (64, 32, 3, 3),
    *[(64, 64, 3, 3)] * 5,
    (64, 32, 1, 1),
    (10, 64),
]


def weights(seed: int = 0) -> list[np.ndarray]:
    """Heavy-tailed random weights in ResNet-20's shapes, 22 tensors of 270,608 values."""
    generator = np.random.default_rng(seed)
    return [generator.standard_t(5, shape).astype(np.float32) for shape in RESNET20]


def quantized(values: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray, int]:
    zero = 2 ** (bits - 1)
    scale = np.abs(values.reshape(len(values), -1)).max(1) / max(zero - 1, 1)
    shaped = scale.reshape(-1, *[1] * (values.ndim - 1))
    return np.clip(np.rint(values / shaped) + zero, 0, 2 * zero - 1).astype(np.uint8), scale, zero


def largest(values: list[np.ndarray], share: float) -> list[np.ndarray]:
    threshold = np.quantile(np.abs(np.concatenate([v.ravel() for v in values])), 1 - share)
    return [np.abs(v) > threshold for v in values]


def every_candidate(values: np.ndarray, bits: int, blank: int) -> list[Encoding]:
    """All combinations, with nothing left out for speed."""

    def flat(array: np.ndarray) -> list[Encoding]:
        return [Packed(array, bits), *(Entropy(Packed(array, w)) for w in (1, 2, 4, 8) if w >= bits)]

    mask = values != blank
    sparse: list[Encoding] = []
    for inner in flat(values[mask]):
        sparse += [Bitmask.of(mask, inner), RelativeIndex.of(mask, inner)]
        sparse += [RelativeIndex.of(mask, inner, width) for width in (4, 8)]
    return flat(values) + sparse + [s.with_index(Entropy(s.index)) for s in sparse]


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.8, 1.0])
def test_the_choice_is_as_small_as_the_best_of_all_candidates(bits: int, share: float) -> None:
    all_weights = weights()
    for values, mask in list(zip(all_weights, largest(all_weights, share), strict=True))[::7]:
        q, _, zero = quantized(values, bits)
        q = np.where(mask, q, zero).astype(np.uint8)
        best = min(c.nbytes for c in every_candidate(q, bits, zero))
        assert encode_codes(q, bits, None, zero).nbytes <= 1.02 * best + 3 * NESTING_BYTES


@settings(deadline=None, max_examples=200)
@given(st.data(), shapes, widths)
def test_chosen_codes_round_trip(data, shape, bits: int) -> None:
    values, mask = data.draw(codes(shape, bits)), data.draw(masks(shape))
    blank = data.draw(st.integers(0, 2**bits - 1))
    encoding = encode_codes(values, bits, mask, blank)
    expected = np.where(mask, values, blank)
    again = unpack(encoding.describe(), shape, encoding.pack())
    assert np.array_equal(encoding.decode(blank), expected)
    assert np.array_equal(again.decode(blank), expected)
    assert encoding.nbytes == len(encoding.pack())


@settings(deadline=None, max_examples=200)
@given(st.data(), shapes, st.sampled_from(["float64", "float32", "float16", "int64", "uint8", "bool"]))
def test_chosen_values_round_trip_and_pruned_ones_are_plus_zero(data, shape, kind: str) -> None:
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    values = np.asarray(generator.standard_normal(shape) * 100).astype(kind)
    mask = data.draw(masks(shape))
    expected = np.where(mask, values, np.zeros((), kind))
    encoding = encode_values(values, mask)
    again = unpack(encoding.describe(), shape, encoding.pack())
    assert encoding.decode().tobytes() == again.decode().tobytes() == expected.tobytes()


def test_minus_zero_and_nan_survive_where_nothing_is_pruned() -> None:
    values = np.array([0.0, -0.0, np.nan, np.inf] * 50, np.float32)
    encoding = encode_values(values)
    assert encoding.decode().tobytes() == values.tobytes()
    pruned = encode_values(values, np.zeros(200, bool))
    assert pruned.decode().tobytes() == b"\0" * 800


def test_half_precision_rounds_and_halves_the_bytes() -> None:
    values = weights()[5]
    half, brain = encode_values(values, type="float16"), encode_values(values, type="bfloat16")
    assert half.nbytes == brain.nbytes == values.size * 2
    assert np.array_equal(half.decode(), values.astype(np.float16))
    assert np.allclose(brain.decode(), values, rtol=2**-8, atol=0)
    assert brain.decode().dtype == np.float32
    mask = np.random.default_rng(0).random(values.shape) < 0.2
    assert np.array_equal(encode_values(values, mask, "bfloat16").decode(), np.where(mask, brain.decode(), 0))


def test_simple_encodings_win_ties() -> None:
    noise = np.random.default_rng(0).integers(0, 16, 4000, np.uint8)
    assert isinstance(encode_codes(noise, 4), Packed)
    assert isinstance(encode_values(weights()[3]), Dense)
    assert isinstance(encode_codes(np.array(3, np.uint8), 4), Packed)


def test_the_entropy_bound_is_below_the_file_and_near_it() -> None:
    all_weights = weights()
    for bits, share in [(8, 1.0), (4, 1.0), (4, 0.5), (4, 0.1), (3, 0.3)]:
        pairs = zip(all_weights, largest(all_weights, share), strict=True)
        encodings = [encode_grid(*_grid(values, bits), 0, mask) for values, mask in pairs]
        bound, size = sum(e.entropy_bytes for e in encodings), sum(e.nbytes for e in encodings)
        assert bound <= size <= 1.08 * bound


def _grid(values: np.ndarray, bits: int) -> tuple:
    q, scale, zero = quantized(values, bits)
    return q, bits, scale, zero


def test_the_entropy_bound_is_never_above_the_file() -> None:
    mask = np.zeros((64, 64), bool)
    mask[::8] = True  # whole rows: far less than a random mask of that density
    encoding = encode_values(weights()[-4][:64, :64, 0, 0], mask)
    assert encoding.nbytes < encoding.entropy_bytes
    assert entropy_bound_bytes([encoding]) == encoding.nbytes


def test_the_zero_order_entropy_does_not_depend_on_the_encoding() -> None:
    q, _, zero = quantized(weights()[10], 3)
    mask = q != zero
    inner = Packed(q[mask], 3)
    bounds = [
        e.entropy_bytes
        for e in (Packed(q, 3), Entropy(Packed(q, 8)), Bitmask.of(mask, inner), RelativeIndex.of(mask, Entropy(inner)))
    ]
    assert bounds == pytest.approx([bounds[0]] * 4)
    counts = np.bincount(q.ravel())
    p = counts[counts > 0] / q.size
    assert bounds[0] == pytest.approx(-q.size * (p * np.log2(p)).sum() / 8)
    half = encode_values(np.where(np.arange(1000) % 2, 1.5, 0).astype(np.float32))
    assert half.entropy_bytes == pytest.approx(500 * 4 + 1000 * math.log2(2) / 8)


SETTINGS = [(32, 0.5), (32, 1.0), (4, 1.0), (8, 1.0), (4, 0.1), (2, 1.0), (4, 0.5)]


@pytest.mark.parametrize(("bits", "share"), SETTINGS)
def test_encoding_a_resnet20_follows_a_slider(bits: int, share: float) -> None:
    all_weights = weights()
    chosen = largest(all_weights, share) if share < 1 else [None] * len(all_weights)
    grids = [quantized(v, min(bits, 8)) for v in all_weights]
    spent = []
    for _ in range(5):
        start = time.thread_time()
        for values, mask, (q, scale, zero) in zip(all_weights, chosen, grids, strict=True):
            if bits == 32:
                assert encode_values(values, mask).nbytes
            else:
                assert encode_grid(q, bits, scale, zero, 0, mask).nbytes
        spent.append(time.thread_time() - start)
    assert min(spent) < 0.03  # 0.2 to 9 ms measured; twice the 15 ms wanted, for slower machines


def test_a_tensor_of_no_channels_has_no_blank_codes_either() -> None:
    encoded = encode_codes(np.zeros((0, 3), np.uint8), 4, background=np.zeros((0, 1), np.uint8))
    assert (encoded.shape, encoded.nbytes) == ((0, 3), 0)


def test_wrong_codes_are_refused_in_a_sentence() -> None:
    with pytest.raises(EncodingError, match="do not fit in 4 bits"):
        encode_codes(np.array([16]), 4)
    with pytest.raises(EncodingError, match="-1 to 3"):
        encode_codes(np.array([-1, 3]), 8)
    with pytest.raises(EncodingError, match="integers"):
        encode_codes(np.array([0.5]), 8)
    with pytest.raises(EncodingError, match="complex64"):
        encode_values(np.zeros(3, np.complex64))
