"""The k-th smallest magnitude and how many are no larger, as a full sort would say."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.techniques.ranking import SORTED, Ranking


@pytest.mark.parametrize("size", [1, 1000, SORTED + 1, 300_000])
def test_every_rank_is_that_of_a_sort(size: int) -> None:
    magnitudes = np.abs(np.random.default_rng(size).standard_normal(size)).astype(np.float32)
    ordered = np.sort(magnitudes)
    ranking = Ranking(lambda: magnitudes)
    assert len(ranking) == size
    for count in {1, 2, size // 3, size // 2, size - 1, size} - {0}:
        found, no_larger = ranking.smallest(min(count, size))
        assert found == ordered[min(count, size) - 1]
        assert no_larger == np.searchsorted(ordered, np.float32(found), "right")


def test_ties_zeros_and_tiny_values_are_counted() -> None:
    values = np.array([0.0, 1e-45, 1e-38, 0.5, 0.5, 0.5, 2.0], np.float32)
    magnitudes = np.random.default_rng(0).permutation(np.repeat(values, SORTED // 4))
    ranking = Ranking(lambda: magnitudes)
    each = SORTED // 4
    assert ranking.smallest(1) == (0.0, each)
    assert ranking.smallest(each + 1) == (float(values[1]), 2 * each)
    assert ranking.smallest(3 * each + 1) == (0.5, 6 * each)
    assert ranking.smallest(6 * each) == (0.5, 6 * each)
    assert ranking.smallest(7 * each) == (2.0, 7 * each)


@pytest.mark.parametrize("size", [1000, SORTED + 1])
def test_the_last_of_tied_magnitudes_are_found_where_they_are(size: int) -> None:
    magnitudes = np.random.default_rng(size).integers(0, size // 10, size).astype(np.float32)
    ranking = Ranking(lambda: magnitudes)
    for magnitude in (0.0, 7.0, float(size // 20)):
        places = np.flatnonzero(magnitudes == magnitude)
        assert ranking.last(magnitude, 3).tolist() == places[-3:].tolist()
        assert ranking.last(magnitude, size).tolist() == places.tolist()
