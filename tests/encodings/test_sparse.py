from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.encodings.strategies import masks
from workbench.encodings import Bitmask, Dense, EncodingError, Packed, RelativeIndex, unpack
from workbench.encodings.sparse import INDEX_BITS, best_index_bits, gap_fields, gaps_of, mask_of


def fields_slowly(mask: list[bool], bits: int) -> list[int]:
    """Walk the positions one by one, as Deep Compression does, with fillers that hold no value."""
    fields, gap = [], 0
    for kept in mask:
        if kept:
            fields.append(gap)
            gap = 0
            continue
        gap += 1
        if gap == 2**bits - 1:
            fields.append(gap)
            gap = 0
    while fields and fields[-1] == 2**bits - 1:  # after the last value there is nothing to reach
        fields.pop()
    return fields


sizes_of_masks = st.integers(0, 600).flatmap(lambda size: masks((size,)))


@settings(deadline=None, max_examples=200)
@given(sizes_of_masks, st.sampled_from(INDEX_BITS))
def test_relative_index_matches_a_slow_reference(mask: np.ndarray, bits: int) -> None:
    fields = gap_fields(gaps_of(np.flatnonzero(mask)), bits)
    assert fields.tolist() == fields_slowly(mask.tolist(), bits)
    assert np.array_equal(mask_of(fields, bits, mask.size), mask)


@settings(deadline=None, max_examples=200)
@given(sizes_of_masks)
def test_the_index_width_chosen_is_the_cheapest(mask: np.ndarray) -> None:
    sizes = {bits: (len(fields_slowly(mask.tolist(), bits)) * bits + 7) // 8 for bits in INDEX_BITS}
    bits, size = best_index_bits(gaps_of(np.flatnonzero(mask)))
    assert size == min(sizes.values()) == sizes[bits]
    values = Packed(np.zeros(int(mask.sum()), np.uint8), 8)
    assert RelativeIndex.of(mask, values).nbytes == size + values.nbytes


def test_a_random_mask_costs_less_than_with_stored_filler_zeros() -> None:
    """Deep Compression's own scheme, 4-bit gaps and 8-bit values of which fillers take one each."""
    mask = np.random.default_rng(0).random(100_000) < 0.1
    gaps = gaps_of(np.flatnonzero(mask))
    theirs = int((gaps // 16 + 1).sum()) * (4 + 8) / 8
    ours = RelativeIndex.of(mask, Packed(np.ones(int(mask.sum()), np.uint8), 8), 4).nbytes
    assert ours < 0.92 * theirs


@pytest.mark.parametrize("sparse", [Bitmask.of, RelativeIndex.of])
def test_pruned_positions_take_the_background(sparse) -> None:
    mask = np.array([[True, False, False], [False, True, True]])
    encoding = sparse(mask, Packed(np.array([1, 2, 3], np.uint8), 2))
    assert encoding.decode().tolist() == [[1, 0, 0], [0, 2, 3]]
    assert encoding.decode(background=7).tolist() == [[1, 7, 7], [7, 2, 3]]
    assert encoding.decode(background=np.array([[8], [9]])).tolist() == [[1, 8, 8], [9, 2, 3]]
    with pytest.raises(EncodingError, match="background"):
        encoding.decode(background=256)


@pytest.mark.parametrize("sparse", [Bitmask.of, RelativeIndex.of])
def test_nothing_kept_and_everything_kept(sparse) -> None:
    for kept in (False, True):
        mask = np.full((5, 3), kept)
        values = np.arange(15 * kept, dtype=np.float32)
        encoding = sparse(mask, Dense.of(values))
        again = unpack(encoding.describe(), (5, 3), encoding.pack()).decode()
        assert np.array_equal(again.ravel(), values if kept else np.zeros(15))


def test_an_index_that_points_outside_its_tensor_is_refused() -> None:
    mask = np.zeros(20, bool)
    mask[19] = True
    encoding = RelativeIndex.of(mask, Packed(np.array([1], np.uint8), 1), 4)
    with pytest.raises(EncodingError, match="beyond"):
        unpack(encoding.describe(), (19,), encoding.pack())
    description = encoding.describe() | {"fields": 10**9}
    with pytest.raises(EncodingError, match="cannot describe"):
        unpack(description, (20,), encoding.pack())
    with pytest.raises(EncodingError, match="positions are kept"):
        Bitmask.of(mask, Packed(np.zeros(2, np.uint8), 1))
