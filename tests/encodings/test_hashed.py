"""A hash spreads places evenly, is the same for ever, and costs no bytes but the buckets'."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.encodings import Dense, EncodingError, Hashed, Packed, encode_hashed, unpack
from workbench.encodings.hashed import bucket_of

#: Seed → the buckets of the first places, of a thousand.
PINNED = {0: [624, 50, 143, 749, 261, 54, 986, 718], 12345: [361, 91, 753, 476, 299, 867, 360, 344]}


@pytest.mark.parametrize("buckets", [2, 7, 256, 1000])
@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_buckets_are_filled_like_dice(buckets: int, seed: int) -> None:
    counts = np.bincount(bucket_of(200_000, buckets, seed), minlength=buckets)
    expected = 200_000 / buckets
    deviation = (((counts - expected) ** 2 / expected).sum() - (buckets - 1)) / np.sqrt(2 * (buckets - 1))
    assert len(counts) == buckets
    assert abs(deviation) < 6


def test_neighbours_and_columns_share_a_bucket_no_more_often_than_chance() -> None:
    places = bucket_of(64 * 1024, 64, 0).astype(int)
    for step in (1, 2, 9, 64, 1024):
        together = float((places[step:] == places[:-step]).mean())
        assert abs(together - 1 / 64) < 6 * np.sqrt(1 / 64 / len(places))


def test_another_seed_is_another_hash() -> None:
    same = float((bucket_of(50_000, 100, 0) == bucket_of(50_000, 100, 1)).mean())
    assert abs(same - 0.01) < 6 * np.sqrt(0.01 / 50_000)


def test_the_hash_is_the_one_that_files_were_written_with() -> None:
    assert bucket_of(8, 1000, 0).tolist() == PINNED[0]
    assert bucket_of(8, 1000, 12345).tolist() == PINNED[12345]


def test_the_mixing_is_that_of_its_definition() -> None:
    def mix(place: int, seed: int) -> int:
        value = (place * 0x9E3779B1 + seed * 0x632BE5AB + 0x1B873593) % 2**32
        for shift, factor in ((15, 0x85EBCA77), (13, 0xC2B2AE3D)):
            value ^= value >> shift
            value = value * factor % 2**32
        return value ^ value >> 16

    expected = [mix(place, 77) * 37 >> 32 for place in range(500)]
    assert bucket_of(500, 37, 77).tolist() == expected


def test_only_buckets_are_stored() -> None:
    buckets = np.random.default_rng(0).normal(size=50).astype(np.float16)
    ours = encode_hashed(buckets, (40, 30), seed=5)
    assert ours.nbytes == 2 * 50
    assert np.array_equal(ours.decode().ravel(), buckets.astype(np.float32)[bucket_of(1200, 50, 5)])


def test_what_was_pruned_is_zero_and_costs_its_entropy() -> None:
    kept = np.random.default_rng(0).random((100, 80)) < 0.1
    ours = encode_hashed(np.ones(9, np.float32), kept.shape, 0, kept)
    assert np.array_equal(ours.decode() != 0, kept)
    assert ours.nbytes < 36 + 0.48 * 8000 / 8 + 20
    assert np.array_equal(unpack(ours.describe(), kept.shape, ours.pack()).decode(), ours.decode())


def test_descriptions_that_do_not_belong_are_refused() -> None:
    ours = encode_hashed(np.ones(9, np.float32), (5, 5), 0)
    for changed in ({"seed": -1}, {"count": 26}, {"count": 0}, {"seed": 2**32}):
        with pytest.raises(EncodingError):
            unpack({**ours.describe(), **changed}, (5, 5), ours.pack())
    with pytest.raises(EncodingError, match="floats"):
        Hashed(Packed(np.zeros(3, np.uint8), 8), (5,), 0).decode()
    with pytest.raises(EncodingError, match="which values are kept"):
        Hashed(Dense.of(np.zeros(3, np.float32)), (5,), 0, Packed(np.zeros(4, np.uint8), 1))
