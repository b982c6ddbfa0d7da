from __future__ import annotations

import itertools

import numpy as np
import pytest

from workbench.measure.flips import TOLD, FlipFinder, confidences, count_flips

N, CLASSES = 300, 5


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def baseline(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(N, CLASSES)).astype(np.float32)


@pytest.fixture
def labels(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, CLASSES, N)


@pytest.fixture
def order(rng: np.random.Generator) -> np.ndarray:
    return rng.permutation(N)


@pytest.fixture
def compressed(rng: np.random.Generator, baseline: np.ndarray) -> np.ndarray:
    return (baseline + rng.normal(0, 0.7, (N, CLASSES))).astype(np.float32)


@pytest.fixture
def finder(baseline: np.ndarray, labels: np.ndarray, order: np.ndarray) -> FlipFinder:
    return FlipFinder(baseline, labels, order)


def test_flips_are_the_first_images_of_the_sample_that_differ(
    finder: FlipFinder, baseline: np.ndarray, compressed: np.ndarray, order: np.ndarray
) -> None:
    differs = baseline.argmax(1) != compressed.argmax(1)
    wanted = [image for image in order if differs[image]]
    assert len(wanted) > TOLD
    assert [flip.image for flip in finder.find(compressed[order])] == wanted[:TOLD]
    assert [flip.image for flip in finder.find(compressed[order], limit=N)] == wanted


def test_a_later_look_only_adds_to_the_list(finder: FlipFinder, compressed: np.ndarray, order: np.ndarray) -> None:
    found = [finder.find(compressed[order[:n]]) for n in (0, 16, 64, N)]
    assert found[0] == ()
    for early, late in itertools.pairwise(found):
        assert late[: len(early)] == early
    assert len(found[1]) < len(found[2]) < len(found[3])


def test_a_flip_tells_both_answers_and_their_softmax_probabilities(
    finder: FlipFinder, baseline: np.ndarray, compressed: np.ndarray, labels: np.ndarray, order: np.ndarray
) -> None:
    def probability(logits: np.ndarray) -> float:
        shares = np.exp(logits.astype(np.float64))
        return float((shares / shares.sum()).max())

    for flip in finder.find(compressed[order]):
        image = flip.image
        assert (flip.label, flip.before, flip.after) == (
            labels[image], baseline[image].argmax(), compressed[image].argmax(),
        )  # fmt: skip
        assert flip.before_confidence == pytest.approx(probability(baseline[image]), rel=1e-5)
        assert flip.after_confidence == pytest.approx(probability(compressed[image]), rel=1e-5)
        assert flip.lost == (flip.before == flip.label)
        assert flip.won == (flip.after == flip.label)
        assert not (flip.lost and flip.won)


def test_what_stored_answers_recall_is_what_a_whole_look_finds(
    finder: FlipFinder, compressed: np.ndarray, order: np.ndarray
) -> None:
    images = finder.differing(compressed.argmax(1).astype(np.uint16))
    assert finder.describe(images, compressed[images]) == finder.find(compressed[order])


def test_images_that_agree_when_run_again_are_left_out(
    finder: FlipFinder, baseline: np.ndarray, order: np.ndarray
) -> None:
    assert finder.describe(order[:9], baseline[order[:9]]) == ()


def test_counts_add_up_to_all_that_changed(baseline: np.ndarray, compressed: np.ndarray, labels: np.ndarray) -> None:
    dense, other = baseline.argmax(1), compressed.argmax(1)
    counts = count_flips(dense, other, labels)
    assert counts.changed == (dense != other).sum()
    assert counts.total == N
    assert counts.won - counts.lost == (other == labels).sum() - (dense == labels).sum()
    assert min(counts.lost, counts.won, counts.other) > 0
    assert count_flips(dense, dense, labels).changed == 0


def test_confidences_of_wrecked_logits_are_numbers() -> None:
    wrecked = np.array([[np.nan, 1.0], [np.inf, 0.0], [1e30, -1e30]], np.float32)
    assert ((confidences(wrecked) >= 0) & (confidences(wrecked) <= 1)).all()
    assert confidences(np.empty((0, 3), np.float32)).shape == (0,)
