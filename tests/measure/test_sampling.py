"""The sampled figures: what the order promises, what an interval may not do, bad input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.measure.populations import Population, make_baseline, perturb
from workbench.errors import WorkbenchError
from workbench.measure.answers import Answers
from workbench.measure.sampling import Figures, Sampler
from workbench.measure.task import Classification


@pytest.fixture(scope="module")
def baseline() -> Population:
    return make_baseline(2000, seed=1)


@pytest.fixture(scope="module")
def sampler(baseline: Population) -> Sampler:
    return Sampler(baseline.logits, baseline.labels, seed=3)


def test_order_holds_every_image_once_and_looks_double(sampler: Sampler) -> None:
    assert np.array_equal(np.sort(sampler.order), np.arange(2000))
    assert sampler.looks == (64, 128, 256, 512, 1024, 2000)


def test_first_look_holds_one_image_of_every_cell(sampler: Sampler) -> None:
    cells = sampler.strata.cells[sampler.order[:64]]
    assert np.array_equal(np.sort(cells), np.arange(len(sampler.strata.sizes)))


@pytest.mark.parametrize("n", [128, 256, 512, 1024])
def test_every_look_takes_equally_many_of_each_cell_while_they_last(sampler: Sampler, n: int) -> None:
    counts = np.bincount(sampler.strata.cells[sampler.order[:n]])
    whole = counts == sampler.strata.sizes
    assert np.ptp(counts[~whole]) <= 1
    assert (counts[whole] <= counts[~whole].max()).all()


def test_no_cell_mixes_right_and_wrong(baseline: Population, sampler: Sampler) -> None:
    right = baseline.logits.argmax(1) == baseline.labels
    shares = np.bincount(sampler.strata.cells, weights=right) / sampler.strata.sizes
    assert set(shares) == {0.0, 1.0}


def test_small_margins_are_drawn_first_but_no_image_is_left_out(baseline: Population, sampler: Sampler) -> None:
    margins = np.abs(Answers(baseline.logits, baseline.labels, sampler.predicted).margin("accuracy"))
    smallest = np.argsort(margins)[:200]
    drawn = np.isin(smallest, sampler.order[:256]).mean()
    assert drawn > 2 * 256 / 2000
    far = np.argsort(margins)[-1000:]
    assert np.isin(far, sampler.order[:256]).sum() >= 0.7 * 256 * 0.5


def test_same_seed_gives_the_same_order_and_another_seed_another(baseline: Population, sampler: Sampler) -> None:
    again = Sampler(baseline.logits, baseline.labels, seed=3)
    other = Sampler(baseline.logits, baseline.labels, seed=4)
    assert np.array_equal(again.order, sampler.order)
    assert not np.array_equal(other.order, sampler.order)


def test_last_look_equals_the_task_on_all_images(baseline: Population, sampler: Sampler) -> None:
    logits = perturb(baseline.logits, 2.0, seed=5)
    figures = sampler.estimate(logits[sampler.order])
    scores = Classification(10).score(logits, baseline.labels, baseline.logits)
    for name in ("accuracy", "agreement", "top5"):
        figure = getattr(figures, name)
        assert figure.kind == "exact"
        assert figure.low == figure.value == figure.high == scores[name].mean()
    assert figures.loss.value == pytest.approx(scores["loss"].mean(), rel=1e-6)


@given(st.integers(0, 2**32 - 1), st.integers(2, 12))
def test_answers_agree_with_the_task_even_on_ties_and_nan(seed: int, classes: int) -> None:
    random = np.random.default_rng(seed)
    logits = random.integers(-2, 3, (40, classes)).astype(np.float32)
    logits[random.random(logits.shape) < 0.03] = np.nan
    baseline = random.standard_normal((40, classes)).astype(np.float32)
    labels = random.integers(0, classes, 40)
    answers = Answers(logits, labels, baseline.argmax(1))
    scores = Classification(classes).score(logits, labels, baseline)
    assert set(answers.shares) == set(scores) - {"loss"}
    for name in answers.shares:
        assert np.array_equal(answers.right(name), scores[name] > 0)
    assert np.allclose(answers.loss, scores["loss"], rtol=1e-5, atol=1e-6)


def test_value_lies_in_the_interval_and_in_what_unseen_images_allow(baseline: Population, sampler: Sampler) -> None:
    for sigma in (0.0, 0.5, 3.0, 30.0):
        logits = perturb(baseline.logits, sigma, seed=6)[sampler.order]
        right = logits.argmax(1) == baseline.labels[sampler.order]
        for n in sampler.looks[:-1]:
            figure = sampler.estimate(logits[:n]).accuracy
            assert (figure.kind, figure.n, figure.split) == ("sampled", n, "test")
            assert right[:n].sum() / 2000 <= figure.low <= figure.value <= figure.high
            assert figure.high <= (right[:n].sum() + 2000 - n) / 2000


def test_no_flip_seen_still_leaves_an_interval(baseline: Population, sampler: Sampler) -> None:
    figure = sampler.estimate(baseline.logits[sampler.order[:64]]).accuracy
    assert figure.value == pytest.approx((baseline.logits.argmax(1) == baseline.labels).mean())
    assert figure.low < figure.value < figure.high


def test_larger_changes_of_margin_widen_the_interval_though_no_flip_was_seen(
    baseline: Population, sampler: Sampler
) -> None:
    first = sampler.order[:64]
    dense = baseline.logits[first]
    small, large = (perturb(baseline.logits, sigma, seed=7)[first] for sigma in (0.01, 2.0))
    for logits in (small, large):
        flipped = logits.argmax(1) != dense.argmax(1)
        logits[flipped] = dense[flipped]
    narrow, wide = (sampler.estimate(logits).accuracy for logits in (small, large))
    assert narrow.value == wide.value
    assert wide.half_width > 1.2 * narrow.half_width


def test_shrinking_all_logits_changes_neither_answers_nor_width(baseline: Population, sampler: Sampler) -> None:
    first = sampler.order[:64]
    logits = perturb(baseline.logits, 0.5, seed=8)[first]
    as_is, shrunk = (sampler.estimate(factor * logits).accuracy for factor in (np.float32(1), np.float32(0.1)))
    assert shrunk.value == as_is.value
    assert shrunk.half_width == pytest.approx(as_is.half_width, rel=0.02)


def test_estimate_is_unbiased_over_the_orders(baseline: Population) -> None:
    logits = perturb(baseline.logits, 3.0, seed=9)
    exact = (logits.argmax(1) == baseline.labels).mean()
    values = []
    for seed in range(150):
        sampler = Sampler(baseline.logits, baseline.labels, seed=seed)
        values.append(sampler.estimate(logits[sampler.order[:64]]).accuracy.value)
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values) - exact) < 6 * error  # rarer than 1e-8 for an unbiased estimate


@pytest.mark.parametrize("broken", ["nan", "inf", "zero", "huge"])
def test_wrecked_logits_give_figures_not_warnings(baseline: Population, sampler: Sampler, broken: str) -> None:
    logits = perturb(baseline.logits, 1.0, seed=10)
    filling = {"nan": np.nan, "inf": np.inf, "zero": 0.0, "huge": 3e38}[broken]
    logits[::3] = filling
    figures = sampler.estimate(logits[sampler.order[:128]])
    assert 0 <= figures.accuracy.low <= figures.accuracy.value <= figures.accuracy.high <= 1
    assert figures.loss.low <= figures.loss.high
    exact = sampler.estimate(logits[sampler.order]).accuracy.value
    assert figures.accuracy.low <= exact <= figures.accuracy.high


def _figures(images: int, classes: int, first: int = 64) -> tuple[Sampler, Figures, NDArray[np.float32]]:
    population = make_baseline(images, seed=2, classes=classes)
    sampler = Sampler(population.logits, population.labels, first=first)
    logits = perturb(population.logits, 1.0, seed=3)[sampler.order]
    return sampler, sampler.estimate(logits[: sampler.looks[0]]), logits


@pytest.mark.parametrize(("images", "classes"), [(1, 10), (3, 2), (64, 10), (65, 3), (100, 10), (360, 10), (500, 1)])
def test_small_sets_and_few_classes_work(images: int, classes: int) -> None:
    sampler, figures, logits = _figures(images, classes)
    assert sampler.looks[-1] == images
    assert (figures.top5 is None) == (classes < 10)
    assert figures.accuracy.low <= figures.accuracy.high
    assert sampler.estimate(logits).accuracy.kind == "exact"


def test_a_perfect_and_a_hopeless_baseline_work() -> None:
    labels = np.arange(500) % 10
    for shift in (0, 1):
        logits = 5 * np.eye(10, dtype=np.float32)[(labels + shift) % 10]
        sampler = Sampler(logits, labels)
        figure = sampler.estimate(logits[sampler.order[:64]]).accuracy
        assert figure.value == 1 - shift


def test_a_first_look_of_another_size_is_kept() -> None:
    sampler, figures, _ = _figures(1000, 10, first=100)
    assert sampler.looks == (100, 200, 400, 800, 1000)
    assert figures.accuracy.n == 100


def test_bad_input_is_refused_in_one_sentence(baseline: Population, sampler: Sampler) -> None:
    with pytest.raises(WorkbenchError, match="one row of logits is needed for each label"):
        Sampler(baseline.logits, baseline.labels[:-1])
    with pytest.raises(WorkbenchError, match="n must be one of"):
        sampler.estimate(baseline.logits[:100])
    with pytest.raises(WorkbenchError, match="64 rows of logits at n = 128"):
        sampler.estimate(baseline.logits[:64], 128)
    with pytest.raises(WorkbenchError, match="at least 2 images"):
        Sampler(baseline.logits, baseline.labels, first=1)
