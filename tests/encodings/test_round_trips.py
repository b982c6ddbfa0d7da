"""Every encoding, nested in every way, gives back what it was given and costs what it says."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.encodings.strategies import arrays, encodings, shapes
from workbench.encodings import ENCODINGS, Dense, EncodingError, Packed, bfloat16_bits, register, unpack
from workbench.encodings.base import size_of


def same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


@settings(deadline=None, max_examples=300)
@given(encodings())
def test_unpacking_gives_bit_identical_values(encoding) -> None:
    description = json.loads(json.dumps(encoding.describe()))
    again = unpack(description, encoding.shape, encoding.pack())
    assert same_bits(again.decode(), encoding.decode())
    assert again.shape == encoding.shape == encoding.decode().shape


@settings(deadline=None, max_examples=300)
@given(encodings())
def test_nbytes_equals_bytes_packed_and_packing_is_repeatable(encoding) -> None:
    before = encoding.nbytes
    again = unpack(encoding.describe(), encoding.shape, encoding.pack())
    assert before == len(encoding.pack()) == again.nbytes
    assert again.pack() == encoding.pack()
    assert again.describe() == encoding.describe()
    assert size_of(encoding.describe(), encoding.shape) in (None, before)


@settings(deadline=None, max_examples=200)
@given(encodings(), st.integers(-3, 3).filter(bool))
def test_too_few_or_too_many_bytes_are_noticed(encoding, change: int) -> None:
    data = encoding.pack()
    wrong = data + b"\0" * change if change > 0 else data[:change]
    if len(wrong) == len(data):
        return
    with pytest.raises(EncodingError):
        unpack(encoding.describe(), encoding.shape, wrong)


@settings(deadline=None)
@given(shapes.flatmap(lambda shape: arrays(shape)))
def test_dense_keeps_every_bit_of_every_type(values_and_type) -> None:
    values, kind = values_and_type
    encoding = Dense(values, kind)
    assert encoding.pack() == values.tobytes()
    if kind != "bfloat16":
        assert same_bits(encoding.decode(), values)


@settings(deadline=None)
@given(encodings())
def test_decoded_arrays_are_new_and_writable(encoding) -> None:
    first = encoding.decode()
    kept = first.copy()
    first[...] = 1
    assert same_bits(encoding.decode(), kept)


def test_dense_keeps_arrays_in_any_memory_order() -> None:
    values = np.arange(24, dtype=np.float32).reshape(4, 6).T
    for array in (values, values[::2], values.astype(">f4")):
        encoding = Dense.of(array)
        again = unpack(encoding.describe(), array.shape, encoding.pack()).decode()
        assert np.array_equal(again, array)


def test_bfloat16_rounds_as_torch_does() -> None:
    torch = pytest.importorskip("torch")
    generator = np.random.default_rng(0)
    values = generator.integers(0, 2**32, 100_000, np.uint32).view(np.float32)
    values[:6] = [0.0, -0.0, np.inf, -np.inf, np.nan, 3.3895314e38]
    expected = torch.from_numpy(values).to(torch.bfloat16)
    decoded = Dense(bfloat16_bits(values), "bfloat16").decode()
    assert np.array_equal(decoded, expected.float().numpy(), equal_nan=True)


def test_values_that_do_not_belong_are_refused() -> None:
    with pytest.raises(EncodingError, match="complex64"):
        Dense.of(np.zeros(3, np.complex64))
    with pytest.raises(EncodingError, match="float32 values were expected"):
        Dense(np.zeros(3, np.float64), "float32")
    with pytest.raises(EncodingError, match="does not fit in 3 bits"):
        Packed(np.array([8], np.uint8), 3)
    with pytest.raises(EncodingError, match="9 bits"):
        Packed(np.array([8], np.uint8), 9)


def test_unknown_and_malformed_descriptions_are_refused() -> None:
    with pytest.raises(EncodingError, match="'huffman'"):
        unpack({"kind": "huffman"}, (3,), b"abc")
    for description in (
        {},
        {"kind": 3},
        {"kind": "packed", "bits": True},
        {"kind": "packed", "bits": 9},
        {"kind": "dense", "type": "object"},
        {"kind": "bitmask"},
        {"kind": "entropy"},
        {"kind": "grid", "zero": -1, "codes": {"kind": "packed", "bits": 8}},
        [],
        None,
    ):
        with pytest.raises(EncodingError):
            unpack(description, (3,), b"\0" * 7)


def test_a_new_encoding_is_one_class_and_a_registration() -> None:
    class Ones(Dense):
        kind = "test-ones"

        def describe(self):
            return {"kind": self.kind}

        def pack(self):
            return b""

        @classmethod
        def unpack(cls, description, shape, data):
            return cls(np.ones(shape, np.float32), "float32")

    try:
        register(Ones)
        assert unpack({"kind": "test-ones"}, (2,), b"").decode().tolist() == [1, 1]
        with pytest.raises(EncodingError, match="two encodings"):
            register(Ones)
    finally:
        ENCODINGS.pop("test-ones", None)
