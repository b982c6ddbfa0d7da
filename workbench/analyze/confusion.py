"""Which class is taken for which: confusion matrices before and after, and what moved between them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .classes import require_labels

Answers = NDArray[np.integer[Any]]


def confusion_matrix(labels: Answers, answers: Answers, classes: int) -> NDArray[np.int64]:
    """Return how many images of each true class (rows) were given each answer (columns), ``(classes, classes)``.

    Raises ``WorkbenchError`` where labels are missing (negative).
    """
    require_labels(labels, "A confusion matrix")
    return answer_table(labels, answers, classes)


def answer_table(before: Answers, after: Answers, classes: int) -> NDArray[np.int64]:
    """Return how often an answer ``before`` (rows) became another ``after`` (columns); needs no labels."""
    pairs = np.asarray(before, np.int64) * classes + np.asarray(after, np.int64)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes).astype(np.int64)
