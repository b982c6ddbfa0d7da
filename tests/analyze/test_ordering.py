"""The order of a sweep's layers is known as surely as is said, and the cells that decide it are the ones that go on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

import workbench as wb
from workbench.analyze.keeping import pack_sensitivity, unpack_sensitivity
from workbench.analyze.ordering import deciding_cells, find_standing
from workbench.analyze.sensitivity import measure_sensitivity
from workbench.errors import WorkbenchError
from workbench.measure.strata import Strata
from workbench.models.zoo.resnet import ResNet20
from workbench.session import Session

IMAGES, LAYERS, LEVELS = 4096, 16, 3
LOOKS = (64, 128, 256, 512, 1024, 2048, 4096)


def population(seed: int) -> tuple[Strata, np.ndarray, np.ndarray]:
    """Return strata, the dense model's answers and each cell's, in the order; half of the layers hardly lose."""
    chance = np.random.default_rng(seed)
    margins = chance.normal(2, 2, IMAGES)
    before = margins > 0
    strata = Strata.of(margins, before, 64, seed)
    harm = np.r_[np.linspace(0.02, 0.1, LAYERS // 2), np.linspace(0.2, 2.5, LAYERS // 2)]
    moved = chance.normal(0, 1, (LAYERS, 1, IMAGES)) * harm[:, None, None] * np.linspace(0.5, 1, LEVELS)[:, None]
    return strata, before[strata.order], (margins - np.abs(moved) > 0)[:, :, strata.order]


def values(strata: Strata, right: np.ndarray, n: np.ndarray) -> np.ndarray:
    found = right.mean(2)
    for layer, level in np.argwhere(n < IMAGES):
        look = strata.look(int(n[layer, level]))
        found[layer, level] = look.totals(right[layer, level, : len(look.index)].astype(float)) @ look.flip
    return np.asarray(found)


def test_covariance_is_that_over_many_orders() -> None:
    _, before, right = population(0)
    n = np.tile([256, 256, 1024], (LAYERS, 1))
    scores, told = [], []
    for seed in range(300):
        chance = np.random.default_rng(1000 + seed)
        margins = np.where(before, 1.0, -1.0) * (1 + np.arange(IMAGES) / IMAGES)  # strata that know right from wrong
        strata = Strata.of(margins, before, 64, int(chance.integers(1 << 30)))
        ordered = right[:, :, strata.order]
        found = find_standing(strata, ordered, before[strata.order], values(strata, ordered, n), n)
        scores.append(found.score)
        if seed < 20:
            told.append(found.covariance)
    true, ours = np.cov(np.array(scores).T), np.mean(told, axis=0)
    harmed = np.diag(true) > 1e-6
    assert harmed.sum() > 4
    np.testing.assert_allclose(np.sqrt(np.diag(ours)[harmed]), np.sqrt(np.diag(true)[harmed]), rtol=0.25)
    difference = np.array([1.0, -1.0])
    pair = np.ix_([LAYERS - 1, LAYERS - 2], [LAYERS - 1, LAYERS - 2])
    assert difference @ ours[pair] @ difference == pytest.approx(difference @ true[pair] @ difference, rel=0.5)


def test_going_on_where_it_says_brings_the_order_that_it_says() -> None:
    reached, inside = [], []
    for seed in range(12):
        strata, before, right = population(seed)
        n = np.full((LAYERS, LEVELS), 64)
        truth = right.mean((1, 2))
        for _ in range(60):
            standing = find_standing(strata, right, before, values(strata, right, n), n)
            if standing.sure_of >= 0.95:
                break
            chosen = deciding_cells(standing, n, LOOKS, np.ones((LAYERS, 1)))
            assert chosen.any()
            n = np.where(chosen, 2 * n, n)
        assert standing.sure_of >= 0.95
        assert n.mean() < IMAGES / 2
        place, low, high = standing.places.T
        assert ((low <= place) & (place <= high)).all()
        assert sorted(place) == list(range(1, LAYERS + 1))
        true_place = np.argsort(np.argsort(truth)) + 1
        inside.append(np.mean((low <= true_place) & (true_place <= high)))
        reached.append(spearmanr(standing.score, truth).statistic)
    assert np.mean(reached) > 0.95
    assert np.mean(np.array(reached) > 0.94) > 0.7
    assert np.mean(inside) > 0.9


def test_cells_that_are_exact_or_harmless_are_not_chosen() -> None:
    strata, before, right = population(1)
    n = np.full((LAYERS, LEVELS), 256)
    n[3] = IMAGES
    standing = find_standing(strata, right, before, values(strata, right, n), n)
    chosen = deciding_cells(standing, n, LOOKS, np.ones((LAYERS, 1)))
    assert chosen.any()
    assert not chosen[3].any()
    n[:] = IMAGES
    standing = find_standing(strata, right, before, values(strata, right, n), n)
    assert standing.sure_of == 1
    assert not deciding_cells(standing, n, LOOKS, np.ones((LAYERS, 1))).any()


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    torch.manual_seed(0)
    chance = torch.Generator().manual_seed(0)
    pictures = torch.rand(600, 1, 28, 28, generator=chance), torch.randint(0, 10, (600,), generator=chance)
    with Session(ResNet20(width=4), wb.load_dataset(pictures, test_share=0.6), history=":memory:") as opened:
        opened.measure()
        yield opened


def test_a_sweep_goes_on_until_the_order_is_sure_and_then_runs_nothing_more(session: Session) -> None:
    asked = {"values": [0.5, 0.9], "layers": ["stage1.*", "stage3.*"], "tolerance": 0.08, "relative": 0}
    plain = measure_sensitivity(session, order=None, **asked).result()
    found = measure_sensitivity(session, **asked).result()
    assert plain.order is None
    assert found.order is not None
    assert found.order >= 0.95 or found.exact or found.n.sum() > 2 * plain.n.sum()
    assert (found.n >= plain.n).all()
    assert found.n.sum() > plain.n.sum()
    there = measure_sensitivity(session, executor="inline", **asked).result()
    np.testing.assert_array_equal(there.n, found.n)
    np.testing.assert_array_equal(there.value, found.value)
    place, low, high = found.places.T
    assert (low <= place).all()
    assert (np.argsort(place) == np.argsort(-found.lost.mean(1), kind="stable")).all()
    np.testing.assert_array_equal(unpack_sensitivity(pack_sensitivity(found)).places, found.places)
    assert found.to_json()["layers"][0]["rank"] == {"value": place[0], "low": low[0], "high": high[0]}
    again = measure_sensitivity(session, start=found, **asked).result()
    np.testing.assert_array_equal(again.n, found.n)


def test_an_order_that_cannot_be_had_is_one_sentence(session: Session) -> None:
    with pytest.raises(WorkbenchError, match="from 0 to below 1"):
        measure_sensitivity(session, order=1.2)
