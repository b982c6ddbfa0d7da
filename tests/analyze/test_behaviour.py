from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics
from torch import nn

from workbench.analyze.attribution import METHODS, attribute, similarity
from workbench.analyze.calibration import confidence_of, measure_calibration, right_of
from workbench.analyze.confusion import answer_table, confusion_matrix
from workbench.analyze.corruptions import STRENGTHS, corrupt, measure_robustness
from workbench.analyze.drift import linear_cka, measure_drift
from workbench.errors import WorkbenchError
from workbench.recipe import Recipe
from workbench.session import Session


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with Session("lenet5", "fashion_mnist", history=":memory:") as session:
        session.measure()
        yield session


def test_the_confusion_matrix_is_scikit_learns_and_without_labels_the_table_of_answers_remains() -> None:
    rng = np.random.default_rng(0)
    labels, answers = rng.integers(0, 7, (2, 500))
    assert np.array_equal(confusion_matrix(labels, answers, 7), metrics.confusion_matrix(labels, answers))
    with pytest.raises(WorkbenchError, match="A confusion matrix needs labels"):
        confusion_matrix(np.full(500, -1), answers, 7)
    assert answer_table(labels, answers, 7).sum() == 500


def test_the_calibration_error_is_the_papers_sum_over_bins() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (3000, 5)).astype(np.float32)
    labels = rng.integers(0, 5, 3000)
    found = measure_calibration(logits, labels)
    shares = torch.from_numpy(logits).double().softmax(1).numpy()
    sure, right = shares.max(1), shares.argmax(1) == labels
    by_hand = 0.0
    for low in np.arange(15) / 15:
        inside = (sure > low) & (sure <= low + 1 / 15)
        if inside.any():
            by_hand += inside.mean() * abs(sure[inside].mean() - right[inside].mean())
    assert found.error == pytest.approx(by_hand, abs=1e-9)
    assert found.overconfidence == pytest.approx(sure.mean() - right.mean())
    assert confidence_of(logits) == pytest.approx(sure)
    assert sum(part.accuracy.n for part in found.bins) == 3000


def test_cka_is_the_textbooks_and_blind_to_scale_and_rotation() -> None:
    rng = torch.Generator().manual_seed(0)
    one = torch.randn(40, 6, generator=rng, dtype=torch.float64)
    other = one[:, :4] + torch.randn(40, 4, generator=rng, dtype=torch.float64)

    def hsic(first: torch.Tensor, second: torch.Tensor) -> float:
        """Song et al.'s formula, with matrices and vectors of ones."""
        k, m = first @ first.T, second @ second.T
        k, m = k - torch.diag(torch.diag(k)), m - torch.diag(torch.diag(m))
        n, ones = len(k), torch.ones(len(k), dtype=torch.float64)
        total = torch.trace(k @ m) + (ones @ k @ ones) * (ones @ m @ ones) / (n - 1) / (n - 2)
        return float((total - 2 / (n - 2) * (ones @ k @ m @ ones)) / (n * (n - 3)))

    expected = hsic(one, other) / np.sqrt(hsic(one, one) * hsic(other, other))
    assert linear_cka(one, other) == pytest.approx(expected)
    turned, _ = torch.linalg.qr(torch.randn(6, 6, generator=rng, dtype=torch.float64))
    assert linear_cka(one, 3 * one @ turned) == pytest.approx(1)
    assert abs(linear_cka(one, torch.randn(40, 6, generator=rng))) < 0.4


@pytest.mark.parametrize("layer", ["conv1", "conv2", "fc1", "fc2"])
def test_drift_points_to_the_one_layer_that_was_wrecked(session: Session, layer: str) -> None:
    names = [one.name for one in session.layers]
    recipe = Recipe.parse(f"- quantize: {{bits: 8}}\n- prune: {{ratio: 0.97, scope: layer, layers: [{layer}]}}")
    images = session.normalization(session.split.images[:128])
    found = measure_drift(session.compress(Recipe()), session.compress(recipe), images)
    assert found.first == layer
    assert f"It first goes wrong at {layer}" in found.sentence()
    rows = {row.name: row for row in found.layers}
    assert rows[layer].own < 10
    for earlier in names[: names.index(layer)]:
        assert rows[earlier].sqnr > 25
        assert rows[earlier].cka > 0.99
    for later in names[names.index(layer) + 1 :]:
        assert rows[later].own > 25  # not its fault
        assert rows[later].sqnr < rows[later].own


def test_mild_settings_go_wrong_nowhere_and_the_same_model_has_no_drift(session: Session) -> None:
    images = session.normalization(session.split.images[:64])
    dense = session.compress(Recipe())
    same = measure_drift(dense, dense, images)
    assert {row.sqnr for row in same.layers} == {120.0}
    assert all(row.cosine == pytest.approx(1) and row.cka == pytest.approx(1) for row in same.layers)
    assert measure_drift(dense, session.compress(Recipe.parse("- quantize: {bits: 8}")), images).first is None


def test_removed_channels_count_as_zeros(session: Session) -> None:
    images = session.normalization(session.split.images[:64])
    sliced = session.compress(Recipe.parse("- prune: {granularity: filter, ratio: 0.3, scope: layer}"))
    found = measure_drift(session.compress(Recipe()), sliced, images)
    first = found.layers[0]
    kept = next(edit.keep for edit in sliced.edits if edit.layer == first.name and edit.side == "out")  # type: ignore[union-attr]
    output = session.model.module.get_submodule(first.name)(images).detach()
    missing = np.setdiff1d(np.arange(output.shape[1]), kept)
    assert len(missing) > 0
    by_hand = 10 * np.log10(float(output.square().sum() / output[:, missing].square().sum()))
    assert first.sqnr == pytest.approx(by_hand, abs=0.01)


@pytest.mark.parametrize("method", METHODS)
def test_attributions_of_the_same_model_are_the_same_and_of_another_are_on_its_scale(
    session: Session, method: str
) -> None:
    dense = session.compress(Recipe()).fresh_module()
    wrecked = session.compress(Recipe.parse("- quantize: {bits: 2}")).fresh_module()
    image, black = session.normalization(torch.stack([session.split.images[0], torch.zeros(1, 28, 28).byte()]))
    label = int(session.split.labels[0])
    same = attribute(dense, dense, image, label, method, black)
    assert same.similarity == pytest.approx(1)
    assert same.before.shape == (28, 28)
    other = attribute(dense, wrecked, image, label, method, black)
    assert np.array_equal(other.before, same.before)
    assert other.similarity < 0.999
    assert other.scale == max(np.abs(other.before).max(), np.abs(other.after).max())


def test_integrated_gradients_add_up_to_the_difference_of_the_logits(session: Session) -> None:
    dense = session.compress(Recipe()).fresh_module()
    image, black = session.normalization(torch.stack([session.split.images[3], torch.zeros(1, 28, 28).byte()]))
    found = attribute(dense, dense, image, 2, "integrated_gradients", black)
    with torch.no_grad():
        one, other = dense(torch.stack([image, black]))[:, 2]
    assert found.before.sum() == pytest.approx(float(one - other), rel=0.05, abs=0.05)


def test_a_method_that_does_not_suit_is_refused_with_advice() -> None:
    plain = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    image = torch.rand(1, 4, 4)
    with pytest.raises(WorkbenchError, match="Grad-CAM needs a convolution"):
        attribute(plain, plain, image, 0, "gradcam", torch.zeros(1, 4, 4))
    with pytest.raises(WorkbenchError, match="no attribution method 'saliency'; there are integrated_gradients"):
        attribute(plain, plain, image, 0, "saliency", torch.zeros(1, 4, 4))


def test_similarity_is_spearmans() -> None:
    one, other = np.random.default_rng(0).normal(size=(2, 9, 9)).astype(np.float32)
    assert similarity(one, other) == pytest.approx(stats.spearmanr(one.ravel(), other.ravel()).statistic)
    assert np.isnan(similarity(one, np.zeros_like(one)))


@pytest.mark.parametrize("name", STRENGTHS)
@pytest.mark.parametrize("shape", [(2, 1, 28, 28), (2, 3, 20, 24), (2, 2, 16, 16)])
def test_corruptions_grow_with_their_strength_and_keep_type_and_range(name: str, shape: tuple[int, ...]) -> None:
    smooth = torch.nn.functional.interpolate(
        torch.rand(*shape[:2], 4, 4, generator=torch.Generator().manual_seed(1)), shape[2:]
    )
    for images in ((smooth * 255).to(torch.uint8), smooth * 4 - 2):
        moved = [float((corrupt(images, name, level).float() - images.float()).abs().mean()) for level in (1, 2, 3)]
        assert 0 < moved[0] < moved[1] < moved[2]
        worst = corrupt(images, name, 3)
        assert worst.dtype == images.dtype
        assert worst.shape == images.shape
        assert worst.float().min() >= images.float().min() - 1e-3 or images.dtype == torch.uint8
        assert torch.equal(worst, corrupt(images, name, 3))  # the same noise for both models


def test_robustness_is_paired_and_a_model_against_itself_changes_nothing(session: Session) -> None:
    labels = session.split.labels.numpy()[:200]
    images = session.split.images[:200]
    dense, two = session.runner(Recipe()), session.runner(Recipe.parse("- quantize: {bits: 2}"))
    same = list(measure_robustness(dense, dense, images, labels, session.normalization))
    assert [(row.corruption, row.strength) for row in same][:2] == [("clean", 0), ("noise", 1)]
    assert len(same) == 13
    assert all(row.change.value == 0 and row.before == row.after for row in same)
    clean = next(measure_robustness(dense, two, images, labels, session.normalization))
    logits = session.logits(Recipe())
    assert logits is not None
    assert clean.before.value == (logits[:200].argmax(1) == labels).mean()
    assert clean.change.value == pytest.approx(clean.after.value - clean.before.value)
    assert clean.change.low < clean.change.value < clean.change.high


def test_an_image_whose_logits_hold_a_nan_is_not_right() -> None:
    logits = np.array([[np.nan, 1, 2], [0, 1, 5]], np.float32)
    labels = np.array([0, 2])
    assert right_of(logits, labels).tolist() == [False, True]
    first, last = measure_calibration(logits, labels).bins
    assert (first.accuracy.value, last.accuracy.value) == (0, 1)
