from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from workbench.analyze.classes import (
    ALARM,
    adjusted_mcnemar,
    compare_classes,
    find_hurt,
    mcnemar,
    paired_change,
    wilson,
)
from workbench.errors import WorkbenchError

NAMES = [f"class {index}" for index in range(10)]
#: How much more or less often than on average a class flips; the hard ones flip often.
UNEVEN = np.array([2.5, 1, 0.3, 1.2, 1.5, 0.1, 2.4, 0.3, 0.4, 0.3])


def alarms(runs: int, *, even: float, flips: float = 0.02) -> int:
    """Count runs that name a class, though every class loses the share ``even`` of its images, beside flips."""
    rng = np.random.default_rng(5)
    sizes = np.full(10, 1000)
    found = 0
    for run in range(runs):
        flipped = rng.binomial(sizes, flips * UNEVEN)
        lost = rng.binomial(flipped, 0.5)
        won = flipped - lost
        found += bool((find_hurt(sizes, lost + rng.binomial(sizes - flipped, even), won, run) <= ALARM).any())
    return found


@pytest.mark.parametrize("even", [0.0, 0.03])
def test_false_alarms_stay_rare_where_no_class_is_hurt_more_than_others(even: float) -> None:
    # at 5 %, 300 runs give 42 alarms or more with a chance of 1e-8
    assert stats.binom.sf(41, 300, 0.05) < 1e-6
    assert alarms(300, even=even) < 42


def test_a_drop_of_three_points_is_found_among_few_flips() -> None:
    rng = np.random.default_rng(6)
    sizes = np.full(10, 1000)
    found = 0
    for run in range(100):
        flipped = rng.binomial(sizes, 0.01 * UNEVEN)
        lost = rng.binomial(flipped, 0.5)
        won, hurt = flipped - lost, run % 10
        lost[hurt] += rng.binomial(1000 - flipped[hurt], 0.03)
        found += find_hurt(sizes, lost, won, run)[hurt] <= ALARM
    assert found >= 90  # it finds 99 %, of which 90 or fewer would be seen with a chance below 1e-6
    assert stats.binom.cdf(89, 100, 0.985) < 1e-6


def test_mcnemars_p_is_scipys_binomial_test() -> None:
    for lost, won in [(5, 0), (12, 7), (0, 0), (3, 9), (180, 140)]:
        expected = stats.binomtest(lost, lost + won, 0.5, alternative="greater").pvalue if lost + won else 1.0
        assert mcnemar(lost, won) == pytest.approx(expected, rel=1e-9)


def test_the_smallest_adjusted_p_is_how_often_chance_gives_a_smaller_one_in_any_class() -> None:
    lost, won = np.array([9, 3, 20]), np.array([1, 1, 15])
    rng = np.random.default_rng(0)
    raw = [mcnemar(int(a), int(b)) for a, b in zip(lost, won, strict=True)]
    tails = [stats.binom.sf(np.arange(-1, n), n, 0.5) for n in lost + won]
    dealt = [tail[rng.binomial(n, 0.5, 40_000)] for tail, n in zip(tails, lost + won, strict=True)]
    share = float((np.min(dealt, axis=0) <= min(raw) + 1e-12).mean())
    assert adjusted_mcnemar(lost, won).min() == pytest.approx(share, abs=5 * np.sqrt(share / 40_000))
    assert adjusted_mcnemar(lost, won).min() <= min(1, 3 * min(raw))  # never worse than Holm


def test_wilsons_interval_is_scipys() -> None:
    ours = wilson(87, 100)
    theirs = stats.binomtest(87, 100).proportion_ci(method="wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-6)


def test_the_interval_of_a_change_covers_the_truth() -> None:
    rng = np.random.default_rng(2)
    down, up, n, runs = 0.05, 0.02, 300, 4000
    counts = rng.multinomial(n, [down, up, 1 - down - up], runs)
    changes = [paired_change(lost, won, n) for lost, won, _ in counts]
    covered = sum(change.low <= up - down <= change.high for change in changes)
    assert covered / runs > 0.93  # nominally 0.95; five standard deviations are 0.017


def test_a_report_names_the_hurt_class_and_says_so() -> None:
    labels = np.repeat(np.arange(10), 200)
    after = labels.copy()
    after[labels == 3] = np.where(np.arange(200) < 30, 4, 3)
    report = compare_classes(labels, after, labels, NAMES)
    assert [row.name for row in report.hurt] == ["class 3"]
    assert report.rows[3].change.value == pytest.approx(-0.15)
    assert report.sentence() == ("Hurt beyond chance: class 3 −15.0 points, while all images together changed by −1.5.")
    assert compare_classes(labels, labels, labels, NAMES).sentence() == "No class is hurt beyond chance."


def test_without_labels_it_says_what_works_all_the_same() -> None:
    answers = np.zeros(5, np.int64)
    with pytest.raises(WorkbenchError, match="needs labels, and these images have none; flips"):
        compare_classes(answers, answers, np.full(5, -1), NAMES)


def test_a_class_without_images_is_never_hurt() -> None:
    labels = np.zeros(50, np.int64)
    report = compare_classes(labels, labels + 1, labels, ["a", "b", "c"])
    assert [row.hurt for row in report.rows] == [False, False, False]  # nothing to be worse than
