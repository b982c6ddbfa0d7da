from __future__ import annotations

import numpy as np
import pytest

from workbench.deploy.benchmark.noise import find_modes, judge
from workbench.deploy.benchmark.values import Interval


def visits(levels: np.ndarray, seed: int = 0, spread: float = 0.02) -> list[list[float]]:
    """Thirty runs of a millisecond in each round, around the round's level."""
    random = np.random.default_rng(seed)
    return [list(1e6 * level * np.exp(random.normal(0, spread, 30))) for level in levels]


def test_a_steady_machine_is_quiet() -> None:
    for seed in range(20):
        found = judge(visits(np.ones(20), seed), load=0.01, switches=1.0)
        assert found.verdict == "quiet", found.findings


def test_a_machine_that_heats_up_is_told_with_its_drift() -> None:
    found = judge(visits(np.linspace(1, 1.12, 20)), load=0.0, switches=0.0)
    assert found.verdict == "noisy"
    assert found.drift == pytest.approx(0.12 / 1.06, rel=0.15)
    assert "slower during" in " ".join(found.findings)


def test_two_levels_are_both_named_instead_of_averaged() -> None:
    random = np.random.default_rng(1)
    times = [
        list(np.where(random.random(30) < 0.4, 1.5e6, 1e6) * np.exp(random.normal(0, 0.02, 30))) for _ in range(20)
    ]
    found = judge(times, load=0.0, switches=0.0)
    assert found.modes == pytest.approx((1.0, 1.5), rel=0.02)
    assert found.verdict == "noisy"


@pytest.mark.parametrize("shape", ["normal", "uniform", "exponential", "lognormal"])
def test_one_level_is_never_taken_for_two(shape: str) -> None:
    random = np.random.default_rng(2)
    draws = {
        "normal": lambda: 1 + 0.1 * random.standard_normal(400).clip(-5, 5),
        "uniform": lambda: random.uniform(1, 1.5, 400),
        "exponential": lambda: 1 + random.exponential(0.2, 400),
        "lognormal": lambda: random.lognormal(0, 0.3, 400),
    }
    assert [find_modes(draws[shape]()) for _ in range(50)] == [None] * 50


def test_other_work_on_the_cores_is_told() -> None:
    assert "Other work took 30%" in " ".join(judge(visits(np.ones(20)), load=0.3, switches=0.0).findings)


def test_the_interval_covers_although_the_runs_of_a_round_resemble_each_other() -> None:
    # a level that wanders slowly against a run, quickly against a round, as disturbances do
    random = np.random.default_rng(3)
    by_round, by_run = 0, 0
    for _ in range(400):
        rounds = [np.exp(random.normal(0, 0.05)) * np.exp(random.normal(0, 0.01, 30)) for _ in range(20)]
        one, other = Interval.of([np.median(times) for times in rounds]), Interval.of(np.concatenate(rounds))
        by_round += one.low <= 1 <= one.high
        by_run += other.low <= 1 <= other.high
    assert by_round >= 0.92 * 400
    assert by_run < 0.75 * 400  # what taking every run for independent would promise
