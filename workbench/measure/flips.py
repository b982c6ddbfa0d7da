"""Which images a compressed model answers otherwise than the dense one, and how sure each was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: How many flipped images a look tells of, at most.
TOLD = 48


@dataclass(frozen=True)
class Flip:
    """One image of the split whose answer changed; confidences are softmax probabilities."""

    image: int
    label: int
    before: int
    before_confidence: float
    after: int
    after_confidence: float

    @property
    def lost(self) -> bool:
        """Whether the dense model was right and the compressed one is not."""
        return self.before == self.label

    @property
    def won(self) -> bool:
        """Whether the compressed model is right and the dense one was not."""
        return self.after == self.label


@dataclass(frozen=True)
class FlipCounts:
    """How many of ``total`` images got another answer: right ones lost, wrong ones won back, and others."""

    lost: int
    won: int
    other: int
    total: int

    @property
    def changed(self) -> int:
        """All images with another answer."""
        return self.lost + self.won + self.other


def count_flips(
    dense: NDArray[np.integer[Any]], compressed: NDArray[np.integer[Any]], labels: NDArray[np.integer[Any]]
) -> FlipCounts:
    """Return the counts for two models' answers ``(N,)`` to images with ``labels`` ``(N,)``."""
    changed = dense != compressed
    lost, won = int((changed & (dense == labels)).sum()), int((changed & (compressed == labels)).sum())
    return FlipCounts(lost, won, int(changed.sum()) - lost - won, len(labels))


class FlipFinder:
    """Compares a compressed model's logits with the dense model's on the same images.

    ``baseline`` ``(N, C)`` are the dense model's logits of the whole split, ``order`` the images' order.
    """

    def __init__(self, baseline: NDArray[np.float32], labels: NDArray[np.int64], order: NDArray[np.int64]) -> None:
        self._labels, self._order = labels, order
        self._answers = baseline.argmax(1)
        self._confidence = confidences(baseline)

    def find(self, logits: NDArray[np.float32], limit: int = TOLD) -> tuple[Flip, ...]:
        """Return the first ``limit`` flips among the images ``order[:n]``, whose logits ``(n, C)`` are given.

        The more images are seen, the longer the list, and what it began with stays.
        """
        images = self._order[: len(logits)]
        rows = np.flatnonzero(logits.argmax(1) != self._answers[images])[:limit]
        return self.describe(images[rows], logits[rows])

    def differing(self, answers: NDArray[np.integer[Any]], limit: int = TOLD) -> NDArray[np.int64]:
        """Return the first ``limit`` images, in the order, whose ``answers`` ``(N,)`` are not the dense model's."""
        differs = answers[self._order] != self._answers[self._order]
        return np.asarray(self._order[differs][:limit], np.int64)

    def describe(self, images: NDArray[np.int64], logits: NDArray[np.float32]) -> tuple[Flip, ...]:
        """Return the flips of ``images`` with their logits ``(n, C)``; those that agree after all are left out."""
        answers, sure = logits.argmax(1), confidences(logits)
        return tuple(
            Flip(
                image=int(image),
                label=int(self._labels[image]),
                before=int(self._answers[image]),
                before_confidence=float(self._confidence[image]),
                after=int(answer),
                after_confidence=float(after),
            )
            for image, answer, after in zip(images, answers, sure, strict=True)
            if answer != self._answers[image]
        )


def confidences(logits: NDArray[np.floating[Any]]) -> NDArray[Any]:
    """Return the softmax probability of each row's winner, ``(n,)``; 0 where a logit is NaN."""
    if not len(logits):
        return np.empty(0)
    with np.errstate(invalid="ignore", over="ignore"):
        shares = 1 / np.exp(logits - logits.max(1, keepdims=True)).sum(1)
    return np.asarray(np.nan_to_num(shares))
