"""What the figures of one model on one split belong to in the history."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

from workbench.data.dataset import Dataset, Normalization, Split
from workbench.errors import WorkbenchError
from workbench.history import WITHOUT_LABELS, History, Key, Record
from workbench.recipe import Recipe
from workbench.subject import Subject
from workbench.techniques import Cost


class Keys:
    """The keys of ``subject`` on the split of ``data`` called ``split``; ``runtime`` names what runs the images."""

    def __init__(
        self, subject: Subject, data: Dataset, split: str, normalization: Normalization, runtime: Callable[[], str]
    ) -> None:
        self._data = data
        self._split: Split = data[split]
        self._normalization = normalization
        self._runtime = runtime
        #: All but the runtime, which is not known before the model's graph is.
        self.place = Key(subject.model.name, subject.hash, data.name, self._images(data.learned), split, runtime="")

    @property
    def main(self) -> Key:
        """The key of recipes that do not learn; waits until the runtime is known."""
        return dataclasses.replace(self.place, runtime=self._runtime())

    @property
    def all(self) -> tuple[Key, ...]:
        """The main key, and where it is another that of recipes that learn."""
        key, lessons = self.main, self._data.lessons
        return (key, dataclasses.replace(key, data_hash=self._images(lessons))) if lessons else (key,)

    def of(self, recipe: Recipe) -> Key:
        """Return what the figures of ``recipe`` belong to: those of one that learns, to what it learns from as well."""
        return self.all[-1 if _learns(recipe) else 0]

    def records(self, history: History, after: int = 0) -> list[Record]:
        """Return what was measured of this model on this split, learned from other data apart; the oldest first."""
        key, *others = self.all
        found = history.records(key, after, *others)
        return [record for record in found if _is_own(history, record, others[0])] if others else found

    def _images(self, learned: str) -> str:
        """Return what tells this split's images apart, and what is learned from beside them."""
        images = f"{self._split.hash}:{self._normalization}" + (f":{learned}" if learned else "")
        return images if self._split.labelled else f"{images}{WITHOUT_LABELS}"


def _is_own(history: History, record: Record, taught: Key) -> bool:
    try:
        learns = _learns(Recipe.parse(json.loads(record.recipe)))  # as YAML it would take fifteen times as long
    except WorkbenchError:  # of a technique that is no more
        return True
    return not learns or history.key_of(record.id or 0).identity == taught.identity


def _learns(recipe: Recipe) -> bool:
    """Whether what ``recipe`` makes of a model depends on images that it calibrates or trains on."""
    return recipe.cost in (Cost.CALIBRATED, Cost.TRAINED)
