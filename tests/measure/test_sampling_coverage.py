"""All looks of a run cover the exact figure: on synthetic damage, on a zoo model, and (slow) in full.

Bounds are set so that an estimator that covers in 94 % of runs fails once in 10⁷.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from tests.bench.estimator import (
    AGAINST_WILSON,
    BINS,
    COVERED,
    FIGURES,
    FIRST_WIDTH,
    SECOND_WIDTH,
    Replay,
    replay,
)  # fmt: skip
from tests.bench.predictions import Predictions, available_models, load_predictions
from tests.measure.populations import collapse, garble, make_baseline, perturb
from workbench.recipe import Recipe

ORDERS = 120
REAL = (
    "quantize: {bits: 6}", "quantize: {bits: 5}", "prune: {ratio: 0.4}", "quantize: {bits: 4}",
    "quantize: {bits: 3}", "prune: {ratio: 0.8}", "quantize: {bits: 2}", "quantize: {bits: 2, per: tensor}",
)  # fmt: skip


def _at_least(runs: int, share: float = COVERED) -> float:
    return float(binom.ppf(1e-7, runs, share)) / runs


@pytest.fixture(scope="module")
def synthetic() -> dict[str, Replay]:
    baseline = make_baseline(2000, seed=11)
    damaged = {f"noise {sigma}": perturb(baseline.logits, sigma, seed=12) for sigma in (0.02, 0.1, 0.4, 1.0, 2.5)}
    damaged |= {f"collapsed {share}": collapse(baseline.logits, share, seed=13) for share in (0.02, 0.1, 0.5, 0.95)}
    damaged |= {f"garbled {share}": garble(baseline.logits, share, seed=14) for share in (0.02, 0.1, 0.4)}
    stored = Predictions("synthetic", baseline.logits, baseline.labels, tuple(damaged), tuple(damaged.values()))
    return replay(stored, ORDERS)


@pytest.fixture(scope="module")
def real() -> dict[str, Replay]:
    recipes = [Recipe.parse(f"- {text}") for text in REAL]
    return replay(load_predictions("lenet300", recipes), ORDERS)


def _bins(result: Replay) -> dict[str, NDArray[np.bool_]]:
    chosen = {label: (result.disagreement > low) & (result.disagreement <= high) for low, high, label in BINS}
    assert all(which.any() for which in chosen.values()), "a bin of disagreement has no recipe"
    return chosen


@pytest.mark.parametrize("figure", ["accuracy", "agreement", "top5"])
def test_every_synthetic_damage_is_covered_at_all_looks(synthetic: dict[str, Replay], figure: str) -> None:
    result = synthetic[figure]
    shares = dict(zip(result.recipes, result.covered.mean(0), strict=True))
    assert {name: share for name, share in shares.items() if share < _at_least(ORDERS)} == {}


def test_synthetic_damages_fill_every_bin(synthetic: dict[str, Replay]) -> None:
    _bins(synthetic["accuracy"])


@pytest.mark.slow
@pytest.mark.parametrize("figure", FIGURES)
def test_every_bin_is_covered_on_a_real_model(real: dict[str, Replay], figure: str) -> None:
    result = real[figure]
    for label, chosen in _bins(result).items():
        share = result.covered[:, chosen].mean()
        assert share >= _at_least(ORDERS), f"{figure}, disagreement {label}: {share:.1%}"


def test_intervals_are_narrow_near_the_baseline_and_no_wider_than_wilsons_far_from_it(
    real: dict[str, Replay],
) -> None:
    result = real["accuracy"]
    near, ratio = result.disagreement <= 0.05, result.half / result.wilson
    assert result.half[near, result.column(64)].mean() <= FIRST_WIDTH
    assert result.half[near, result.column(256)].mean() <= SECOND_WIDTH
    assert ratio[near, result.column(256)].mean() <= AGAINST_WILSON
    assert ratio[~near].max() <= 1.25


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", available_models(("lenet300", "lenet5", "resnet20", "mobilenetv2")))
def test_every_bin_is_covered_in_the_full_replay(name: str) -> None:
    orders = 500
    found = replay(load_predictions(name), orders)
    for figure, result in found.items():
        for label, chosen in _bins(result).items():
            share = result.covered[:, chosen].mean()
            assert share >= _at_least(orders), f"{figure}, disagreement {label}: {share:.1%}"
