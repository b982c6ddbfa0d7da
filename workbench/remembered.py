"""The settings that were measured on one model and split: kept in memory and in the history, and found again.

Exact figures and flipped images are kept of every setting, logits of the last few. That the history can't be
written (a full disk, a locked or a vanished file) is told, and does not stop the figures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.history import History, HistoryError, Key, Record
from workbench.measure.estimate import Estimate
from workbench.measure.flips import Flip
from workbench.measure.sampling import Figures
from workbench.recipe import Recipe
from workbench.snapshot import Snapshot, sentence

Logits = NDArray[np.float32]

#: Settings whose logits on the whole split are kept, and how many bytes of them at most.
KEPT_LOGITS, KEPT_LOGITS_BYTES = 6, 256 * 2**20


class Remembered:
    """Measured settings of a model on a split of ``images``; ``key_of`` says what those of a recipe belong to.

    ``tell`` is given a sentence when the history can't be written.
    """

    def __init__(
        self, history: History, key_of: Callable[[Recipe], Key], images: int, split: str, tell: Callable[[str], None]
    ) -> None:
        self._history = history
        self._key_of = key_of
        self._images = images
        self._split = split
        self._tell = tell
        self._figures: dict[str, Figures] = {}
        self._flips: dict[str, tuple[Flip, ...]] = {}
        self._logits: dict[str, Logits] = {}
        self._records: dict[str, int] = {}

    @property
    def _key(self) -> Key:
        return self._key_of(Recipe())

    def figures(self, recipe: Recipe) -> tuple[Figures, tuple[Flip, ...]] | None:
        """Return the exact figures and the flipped images of a setting measured or recalled by this process."""
        found = self._figures.get(recipe.hash)
        return None if found is None else (found, self._flips[recipe.hash])

    def baseline_logits(self) -> Logits | None:
        """Return the dense model's logits ``(N, classes)`` in the split's order, where the history has them."""
        logits = self._history.baseline_logits(self._key)
        return None if logits is None or len(logits) != self._images else logits

    def keep_baseline_logits(self, logits: Logits) -> None:
        """Keep the dense model's logits ``(N, classes)``, in the split's order, for later sessions."""
        self._write(lambda: self._history.keep_baseline_logits(self._key, logits))

    def logits(self, recipe: Recipe) -> Logits | None:
        """Return the logits ``(N, classes)`` of a setting measured lately, in the split's order, or None."""
        found = self._logits.get(recipe.hash)
        return self.baseline_logits() if found is None and not recipe else found

    def keep_logits(self, recipe: Recipe, logits: Logits) -> None:
        """Keep the logits of a setting ``(N, classes)``, in the split's order; the oldest make room."""
        if logits.nbytes <= KEPT_LOGITS_BYTES // 2:
            self._logits[recipe.hash] = logits
        while len(self._logits) > KEPT_LOGITS or sum(kept.nbytes for kept in self._logits.values()) > KEPT_LOGITS_BYTES:
            self._logits.pop(next(iter(self._logits)))

    def answers(self, recipe: Recipe) -> NDArray[np.integer[Any]] | None:
        """Return each image's answer ``(N,)`` under a measured setting, or None where it was not measured."""
        logits = self._logits.get(recipe.hash)
        if logits is not None:
            return np.asarray(logits.argmax(1))
        record = self._found(recipe)
        return None if record is None or record.id is None else self._history.predictions(record.id)

    def keep(
        self,
        first: Snapshot,
        figures: Figures,
        logits: Logits,
        flips: tuple[Flip, ...],
        parent: Recipe | None,
        latency_ms: float | None,
    ) -> None:
        """Remember the setting that ``first`` outlined: here, and in the history as a child of ``parent``.

        ``logits`` ``(N, classes)`` are in the split's order; ``latency_ms`` is this machine's, None where it is
        not known.
        """
        assert first.size is not None
        recipe, size = first.recipe, first.size
        self._figures[recipe.hash], self._flips[recipe.hash] = figures, flips
        self.keep_logits(recipe, logits)
        labelled = self._key.labelled
        record = Record(
            recipe_hash=recipe.hash,
            recipe=recipe.to_json(),
            n=figures.accuracy.n,
            accuracy=figures.accuracy.value if labelled else None,
            top5=figures.top5.value if labelled and figures.top5 else None,
            loss=figures.loss.value if labelled else None,
            agreement=figures.agreement.value,
            bytes=size.bytes,
            dense_fp32_bytes=size.dense_fp32_bytes,
            runtime_bytes=size.runtime_bytes,
            entropy_bytes=size.entropy_bytes,
            latency_ms=latency_ms,
        )
        predictions = logits.argmax(1)
        layers = [dataclasses.asdict(layer) for layer in first.layers]

        def write() -> None:
            before = self._identity(parent) if parent is not None else None
            self._records[recipe.hash] = self._history.add(self._key_of(recipe), record, predictions, before, layers)

        self._write(write)

    def recall(self, recipe: Recipe) -> tuple[Figures, NDArray[np.integer[Any]]] | None:
        """Return the figures and answers ``(N,)`` of a setting measured in an earlier session, or None."""
        record = self._found(recipe)
        if record is None or record.id is None:
            return None
        try:
            predictions = self._history.predictions(record.id)
        except HistoryError:  # lost with a part of a damaged file
            return None

        def exact(value: float) -> Estimate:
            return Estimate.exact(value, record.n, self._split)

        top5 = None if record.top5 is None else exact(record.top5)
        self._records[recipe.hash] = record.id
        loss = nan if record.loss is None else record.loss
        return Figures(exact(record.score), exact(record.agreement), exact(loss), top5), predictions

    def take_back(self, recipe: Recipe, figures: Figures, flips: tuple[Flip, ...]) -> None:
        """Remember here what was recalled."""
        self._figures[recipe.hash], self._flips[recipe.hash] = figures, flips

    def bring_back(self, recipe: Recipe) -> None:
        """Restore a setting that a person deleted and has reached again."""
        found = self._records.get(recipe.hash)
        if found is not None:
            self._write(lambda: self._history.restore(found) if self._history.record(found).deleted else None)

    def keep_latency(self, recipe: Recipe, ms: float) -> None:
        """Keep the measured latency of a setting."""
        self._write(lambda: self._history.note_measured_latency(self._key_of(recipe), recipe.hash, ms))

    def _identity(self, recipe: Recipe) -> int | None:
        """Return the number of a setting in the history, None where it has none."""
        known = self._records.get(recipe.hash)
        found = self._found(recipe) if known is None else None
        return known if found is None else found.id

    def _found(self, recipe: Recipe) -> Record | None:
        """Return the setting's record, where it is of the whole split."""
        record = self._history.find(self._key_of(recipe), recipe.hash)
        return None if record is None or record.id is None or record.n != self._images else record

    def _write(self, write: Callable[[], None]) -> None:
        try:
            write()
        except Exception as error:  # whatever the file system comes up with
            self._tell(f"Measured settings are not being kept: {sentence(error)}")
