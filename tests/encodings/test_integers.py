from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.encodings.strategies import codes, widths
from workbench.encodings.integers import WIDTHS, code_type, pack_codes, unpack_codes


def pack_slowly(values: list[int], bits: int) -> bytes:
    """The definition: code i takes bits i*b to (i+1)*b - 1 of one long little-endian number."""
    total = sum(int(value) << (i * bits) for i, value in enumerate(values))
    return total.to_bytes((len(values) * bits + 7) // 8, "little")


@settings(deadline=None, max_examples=200)
@given(st.data(), widths, st.integers(0, 70))
def test_packing_matches_a_slow_reference_at_every_width(data, bits: int, size: int) -> None:
    values = data.draw(codes((size,), bits))
    assert pack_codes(values, bits) == pack_slowly(values.tolist(), bits)


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 63, 64, 65, 1000])
def test_every_width_and_length_round_trips(bits: int, size: int) -> None:
    values = np.random.default_rng(bits).integers(0, 2**bits, size, code_type(bits))
    packed = pack_codes(values, bits)
    assert len(packed) == (size * bits + 7) // 8
    assert np.array_equal(unpack_codes(packed, bits, size), values)


@pytest.mark.parametrize("bits", range(1, 9))
def test_packing_a_small_network_takes_about_a_millisecond(bits: int) -> None:
    values = np.random.default_rng(0).integers(0, 2**bits, 272_000, np.uint8)
    spent = []
    for _ in range(10):
        start = time.thread_time()
        pack_codes(values, bits)
        spent.append(time.thread_time() - start)
    assert min(spent) < 0.003  # 0.1 to 0.5 ms measured; room for slower machines
