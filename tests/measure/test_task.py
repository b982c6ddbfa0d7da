"""The figures of a classification, image by image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from workbench.errors import WorkbenchError
from workbench.measure.task import Classification, find_task

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(500, 12, generator=GENERATOR) * 3
BASELINE = LOGITS + torch.randn(500, 12, generator=GENERATOR)
LABELS = torch.randint(0, 12, (500,), generator=GENERATOR)
TASK = Classification(12)


def test_scores_are_those_of_torch_for_each_image() -> None:
    scores = TASK.score(LOGITS, LABELS, BASELINE)
    top5 = (LOGITS.topk(5).indices == LABELS[:, None]).any(1)
    assert scores["accuracy"].tolist() == (LOGITS.argmax(1) == LABELS).double().tolist()
    assert scores["top5"].tolist() == top5.double().tolist()
    assert np.allclose(scores["loss"], F.cross_entropy(LOGITS, LABELS, reduction="none"), atol=1e-5)
    assert scores["agreement"].tolist() == (LOGITS.argmax(1) == BASELINE.argmax(1)).double().tolist()


def test_arrays_and_tensors_score_alike() -> None:
    tensors = TASK.score(LOGITS.requires_grad_(False), LABELS, BASELINE)
    arrays = TASK.score(LOGITS.numpy(), LABELS.numpy(), BASELINE.numpy())
    half = TASK.score(LOGITS.bfloat16(), LABELS)
    assert all(np.array_equal(tensors[name], arrays[name]) for name in tensors)
    assert abs(half["loss"].mean() - tensors["loss"].mean()) < 0.05


def test_metrics_name_the_scores_in_order_with_the_headline_first() -> None:
    assert [metric.name for metric in TASK.metrics] == ["accuracy", "top5", "loss", "agreement"]
    assert list(TASK.score(LOGITS, LABELS, BASELINE)) == [metric.name for metric in TASK.metrics]
    assert list(TASK.score(LOGITS, LABELS)) == ["accuracy", "top5", "loss"]


@pytest.mark.parametrize(("classes", "there"), [(9, False), (10, True)])
def test_top5_is_measured_from_ten_classes_on(classes: int, there: bool) -> None:
    scores = Classification(classes).score(np.zeros((1, classes)), [0])
    assert ("top5" in scores) == there


def test_ties_go_to_the_lower_class_in_top1_and_top5() -> None:
    scores = TASK.score(np.zeros((12, 12)), np.arange(12))
    assert scores["accuracy"].tolist() == [1] + [0] * 11
    assert scores["top5"].tolist() == [1] * 5 + [0] * 7


def test_large_logits_do_not_overflow() -> None:
    loss = Classification(2).score(np.array([[1e4, 0.0], [1e4, 0.0]]), [0, 1])["loss"]
    assert loss.tolist() == [0.0, 1e4]


def test_nan_logits_are_wrong_and_agree_with_nothing() -> None:
    logits = np.full((2, 12), np.nan)
    scores = TASK.score(logits, [0, 3], logits)
    for name in ("accuracy", "top5", "agreement"):
        assert scores[name].tolist() == [0, 0]
    assert np.isposinf(scores["loss"]).all()


@pytest.mark.parametrize(
    ("logits", "labels", "baseline", "said"),
    [
        (np.zeros((3, 7)), [0, 1, 2], None, "has shape (3, 7), and the data have 12 classes"),
        (np.zeros((3, 12, 2)), [0, 1, 2], None, "has shape (3, 12, 2)"),
        (np.zeros((3, 12)), [0, 1], None, "3 outputs and labels of shape (2,)"),
        (np.zeros((3, 12)), [0, 1, 12], None, "A label is 12"),
        (np.zeros((3, 12)), [0, 1, -1], None, "A label is -1"),
        (np.zeros((3, 12)), [0, 1, 2], np.zeros((2, 12)), "3 outputs and 2 of the baseline"),
    ],
)
def test_outputs_and_labels_that_do_not_fit_are_refused(
    logits: object, labels: object, baseline: object, said: str
) -> None:
    with pytest.raises(WorkbenchError) as caught:
        TASK.score(logits, labels, baseline)  # type: ignore[arg-type]
    assert said in str(caught.value)


def test_tasks_are_found_by_name() -> None:
    assert find_task("classification", ("a", "b")) == Classification(2)
    with pytest.raises(WorkbenchError, match="no task 'detection'; there is classification"):
        find_task("detection", ())
