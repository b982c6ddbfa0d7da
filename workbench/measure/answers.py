"""What the estimator needs of a batch of logits: margins, answers and losses, computed once and quickly.

The answers and losses are those of ``task.Classification``, which says what ties and NaN mean; a test
holds the two together. Here the classes come first in memory and the arithmetic stays in float32,
which takes a quarter of the time: this runs at every look, while someone drags a slider.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .strata import Flags, Floats, Ints
from .task import TOP5_CLASSES


@dataclass(frozen=True, eq=False)
class Answers:
    """Logits ``(n, C)`` of some images, their ``labels`` and the classes the baseline ``expected``, ``(n,)``."""

    logits: NDArray[np.float32]
    labels: Ints
    expected: Ints

    @property
    def shares(self) -> tuple[str, ...]:
        """The figures that are shares of the images."""
        return ("accuracy", "agreement", "top5") if self.logits.shape[1] >= TOP5_CLASSES else ("accuracy", "agreement")

    def right(self, name: str) -> Flags:
        """Which images count for a share, ``(n,)``; those with a NaN never do."""
        if name == "top5":
            return np.asarray((self._rank < 5) & self._valid)
        return np.asarray((self._winner == self._target(name)) & self._valid)

    def margin(self, name: str) -> Floats:
        """Logit of the class that counts minus the largest it must beat, ``(n,)``: positive where it is right."""
        target, rows = self._target(name), np.arange(len(self.labels))
        own = self._by_class[target, rows]
        others = self._by_class.copy()
        others[target, rows] = -np.inf
        rival = np.partition(others, -5, axis=0)[-5] if name == "top5" else others.max(0)
        with np.errstate(invalid="ignore"):
            return np.asarray(own - rival, dtype=np.float64)

    @cached_property
    def loss(self) -> Floats:
        """Cross-entropy of each image in nats, ``(n,)``; infinite where a logit is NaN."""
        own = self._by_class[self.labels, np.arange(len(self.labels))]
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            total = np.exp(self._by_class - self._largest).sum(0)
            loss = np.log(total) - (own - self._largest)
        return np.where(np.isnan(loss), np.inf, loss).astype(np.float64)

    def _target(self, name: str) -> Ints:
        return self.expected if name == "agreement" else self.labels

    @cached_property
    def _by_class(self) -> NDArray[np.float32]:
        return np.ascontiguousarray(self.logits.T, dtype=np.float32)

    @cached_property
    def _largest(self) -> NDArray[np.float32]:
        return np.asarray(self._by_class.max(0))

    @cached_property
    def _valid(self) -> Flags:
        return np.asarray(~np.isnan(self._largest))  # a maximum passes NaN on

    @cached_property
    def _winner(self) -> Ints:
        return np.asarray(self.logits.argmax(1))

    @cached_property
    def _rank(self) -> Ints:
        """How many classes come before the label: those with more, and lower numbers with as much."""
        own = self._by_class[self.labels, np.arange(len(self.labels))]
        earlier = np.arange(len(self._by_class))[:, None] < self.labels
        return np.asarray(((self._by_class > own) | ((self._by_class == own) & earlier)).sum(0))
