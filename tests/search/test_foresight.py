"""What is foreseen of whole recipes follows what was measured of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from workbench.measure.estimate import Estimate
from workbench.recipe import Recipe
from workbench.search.allocation import Answer, remark
from workbench.search.damage import _monotone
from workbench.search.foresight import Foresight, Seen
from workbench.snapshot import Snapshot

DENSE = Estimate.exact(0.9, 1000, "validation")


@pytest.fixture
def foresight() -> Foresight:
    kl = np.linspace(0, 1, 50)
    damage = (np.array([0.0, 0.1, 0.4]), np.array([0.0, 0.2, 0.3]), np.array([0.0, 0.05, 0.5]))
    return Foresight(damage, DENSE, (kl, 0.2 * kl))


def test_divergences_are_added_until_whole_recipes_were_measured(foresight: Foresight) -> None:
    assert foresight.divergence((1, 1, 1)) == pytest.approx(0.35)
    assert foresight.accuracy((1, 1, 1)).value == pytest.approx(0.9 - 0.2 * 0.35, abs=1e-6)
    assert foresight.accuracy((0, 0, 0)).value == pytest.approx(0.9)


def test_measured_recipes_that_diverge_more_than_their_sum_raise_what_is_foreseen(foresight: Foresight) -> None:
    learnt = foresight.learning((Seen((1, 1, 1), 0.7, 0.14), Seen((2, 0, 1), 0.9, 0.18)))
    assert learnt.divergence((1, 1, 1)) == pytest.approx(0.7, rel=0.02)
    assert learnt.divergence((1, 2, 1)) > 1.5 * foresight.divergence((1, 2, 1))


def test_what_the_recipes_other_steps_do_is_foreseen_beside_the_choice(foresight: Foresight) -> None:
    on_top = replace(foresight, ground=Seen((0, 0, 0), 0.5, 0.1))
    assert on_top.divergence((0, 0, 0)) == pytest.approx(0.5)
    assert on_top.accuracy((1, 1, 1)).value == pytest.approx(0.9 - 0.2 * 0.85, abs=1e-6)
    assert on_top.affordable(0.15) == pytest.approx(0.25, abs=1e-6)
    assert on_top.affordable(0.05) == 0
    learnt = on_top.learning((Seen((1, 1, 1), 1.2, 0.24),))
    assert learnt.divergence((1, 1, 1)) == pytest.approx(1.2, rel=0.02)
    assert learnt.divergence((0, 0, 0)) == pytest.approx(0.5)


def test_a_unit_to_blame_gets_the_larger_weight(foresight: Foresight) -> None:
    seen = (Seen((2, 0, 0), 1.2, 0.24), Seen((0, 2, 0), 0.3, 0.06), Seen((0, 0, 2), 0.5, 0.1))
    learnt = foresight.learning(seen)
    ratios = [ours[2] / theirs[2] for ours, theirs in zip(learnt.weighted, foresight.damage, strict=True)]
    assert ratios[0] > 1.5 * max(ratios[1:])


def test_the_divergence_that_a_loss_allows_costs_that_loss(foresight: Foresight) -> None:
    for lost in (0.01, 0.1, 0.15, 0.5):
        assert float(foresight.lost(foresight.affordable(lost))) == pytest.approx(lost, abs=1e-6)


def test_a_milder_option_is_never_taken_to_harm_more_than_a_harsher_one() -> None:
    options = ((8.0,), (4.0,), (2.0,))
    damage = _monotone(np.array([0.02, 0.01, 0.5]), options, lambda one, other: one[0] <= other[0])
    assert damage.tolist() == [0.01, 0.01, 0.5]


def test_a_prediction_that_was_off_is_told_in_words() -> None:
    predicted = Estimate(0.88, 0.87, 0.89, 0, "predicted", "validation")
    measured = Snapshot(0, Recipe(), accuracy=Estimate.exact(0.85, 1000, "validation"))
    answer = Answer("exact", (0,), Recipe(), predicted, 0.1, 1.0, validation=measured, diverged=0.2)
    text = remark(answer, "The best")
    assert text is not None
    assert "3.00 points too good" in text
    assert "harm more than their sum (2.0 times)" in text
    near = Snapshot(0, Recipe(), accuracy=Estimate.exact(0.875, 1000, "validation"))
    assert remark(Answer("exact", (0,), Recipe(), predicted, 0.1, 1.0, validation=near), "The best") is None
