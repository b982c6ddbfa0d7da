"""The settings that the present one can be compared with: the dense model and those measured before."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from workbench.recipe import Recipe

from ..base.words import in_words

if TYPE_CHECKING:
    from workbench.history import Record
    from workbench.session import Session

#: How many measured settings a list offers, at most: those with a star or a name first, then the latest.
OFFERED = 60


class Offers:
    """Settings of one Session's history, read once and then only what is new."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._records: dict[str, Record] = {}
        self._last = 0

    def refresh(self) -> list[dict[str, Any]]:
        """Return what to offer: ``hash`` and ``text`` of each, the dense model first."""
        for record in self._session.records(after=self._last):
            self._last = max(self._last, record.id or 0)
            self._records[record.recipe_hash] = record
        dense = Recipe().hash
        measured = [record for key, record in self._records.items() if key != dense]
        measured.sort(key=lambda record: (bool(record.name or record.starred), record.time), reverse=True)
        offers = [{"hash": dense, "text": "the dense model"}]
        return offers + [{"hash": one.recipe_hash, "text": _text(one)} for one in measured[:OFFERED]]

    def recipe(self, recipe_hash: str) -> Recipe:
        """Return the recipe of an offer; the dense model's for one that is not known."""
        record = self._records.get(recipe_hash)
        return Recipe.parse(json.loads(record.recipe)) if record else Recipe()


def _text(record: Record) -> str:
    words = record.name or in_words(json.loads(record.recipe))
    like = "" if record.judged == "accuracy" else " as dense"
    return f"{'★ ' if record.starred else ''}{words} ({100 * record.score:.2f} %{like})"
