"""Which flipped images a view shows, and in which order, so that nothing jumps while figures narrow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workbench.measure.flips import Flip, FlipCounts, count_flips
from workbench.recipe import Recipe

if TYPE_CHECKING:
    from workbench.session import Session
    from workbench.snapshot import Snapshot

Answers = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Shown:
    """A flipped image on display; ``new``: it was not flipped under the setting before."""

    flip: Flip
    new: bool


class Arrangement:
    """The flipped images on display, ``limit`` at most.

    A recipe is drawn at most three times: with its first flips, when there are enough to fill the view,
    and when it has settled. New images come first; once one is drawn it keeps its place as long as the
    recipe stays.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._recipe = ""
        self._stage = 0
        self._shown: tuple[Shown, ...] = ()

    def follow(self, snapshot: Snapshot, before: Answers | None) -> tuple[Shown, ...] | None:
        """Return what to show for ``snapshot``, or None where that is what is shown already.

        ``before`` are the answers ``(N,)`` under the setting before; None where they are not known.
        """
        if snapshot.recipe_hash != self._recipe:
            self._recipe, self._stage, self._shown = snapshot.recipe_hash, 0, ()
        stage = 3 if snapshot.settled else 2 if len(snapshot.flips) >= self._limit else min(1, len(snapshot.flips))
        if stage <= self._stage:
            return None
        self._stage = stage
        self._shown = self._arrange(snapshot.flips, before)
        return self._shown

    def _arrange(self, flips: tuple[Flip, ...], before: Answers | None) -> tuple[Shown, ...]:
        present = {
            flip.image: Shown(flip, before is not None and bool(before[flip.image] == flip.before)) for flip in flips
        }
        kept = [present.pop(shown.flip.image) for shown in self._shown if shown.flip.image in present]
        joined = sorted(present.values(), key=lambda shown: not shown.new)
        return (*kept, *joined)[: self._limit]


class SettledAnswers:
    """Every image's answer under the present and the previous settled setting, from the history."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._present: tuple[str, Answers | None] = ("", None)
        self._previous: tuple[str, Answers | None] = ("", None)

    def settle(self, recipe: Recipe) -> None:
        """Note that a recipe has settled."""
        if recipe.hash != self._present[0]:
            self._previous = self._present
            self._present = recipe.hash, self._under(recipe)

    def before(self, recipe_hash: str) -> Answers | None:
        """Return the answers under the setting settled before ``recipe_hash``.

        None where they are not known, and after the dense model, where every flip is new.
        """
        name, answers = self._previous if recipe_hash == self._present[0] else self._present
        return None if name == Recipe().hash else answers

    def counts(self, recipe_hash: str) -> FlipCounts | None:
        """Return how many of all images flipped under a settled recipe, where the history tells."""
        name, answers = self._present
        dense = self._under(Recipe())
        if name != recipe_hash or answers is None or dense is None:
            return None
        return count_flips(dense, answers, self._session.split.labels.numpy())

    def _under(self, recipe: Recipe) -> Answers | None:
        history = self._session.history
        record = history.find(self._session.key_of(recipe), recipe.hash)
        return None if record is None or record.id is None else history.predictions(record.id)
