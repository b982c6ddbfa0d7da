"""What a person has marked in a Session: the selected layers and the locked ones.

Views share the Session and nothing else, so the marks hang on the Session: every view of it asks for
the same ``Marks``. They also hold the lock under which a view changes the recipe, so that of two edits
made at once from two views neither is lost.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from workbench.attached import PerSession, Watched

if TYPE_CHECKING:
    from workbench.recipe import Recipe, Step
    from workbench.session import Session

#: Moves of which it is known which generation they began.
MOVES = 64


class Marks(Watched):
    """Selected and locked layers of one Session."""

    def __init__(self, selected: Iterable[str] = ()) -> None:
        super().__init__()
        #: Tells the views of this Session from those of others on one page.
        self.name = uuid.uuid4().hex
        self._selected = tuple(selected)
        self._locked: frozenset[str] = frozenset()
        self._untrained: tuple[Step, ...] = ()
        self._trained: dict[str, Recipe] = {}
        self._moves: tuple[tuple[int, int], ...] = ()

    @property
    def selected(self) -> tuple[str, ...]:
        """The selected layers' names, the one chosen last at the end."""
        return self._selected

    @property
    def layer(self) -> str:
        """The layer chosen last, or an empty string."""
        return self._selected[-1] if self._selected else ""

    @property
    def locked(self) -> frozenset[str]:
        """The layers that no slider, preset or search may change."""
        return self._locked

    def select(self, *layers: str) -> None:
        """Select these layers and tell every view."""
        with self._lock:
            if layers == self._selected:
                return
            self._selected = layers
        self._tell()

    def lock(self, layers: Iterable[str], locked: bool = True) -> None:
        """Lock or unlock these layers and tell every view."""
        with self._lock:
            before = self._locked
            self._locked = before | set(layers) if locked else before - set(layers)
            if before == self._locked:
                return
        self._tell()

    @property
    def untrained(self) -> tuple[Step, ...]:
        """Trained steps that the last changes took off, since they belong to another recipe."""
        return self._untrained

    def change(
        self, session: Session, edit: Callable[[Recipe], Recipe], whole: bool = False, move: int | None = None
    ) -> int:
        """Set the session's recipe to ``edit`` of the present one; return the new generation.

        Trained steps that the edit makes stale are taken off, and come back when the recipe does. ``whole``
        tells that a recipe was put in the place of the other, to be taken as it is; ``move`` is the page's number for
        a slider's move that asks for it.
        """
        from workbench.editing import without_stale_training

        with self._lock:
            before, untold = session.recipe, self._untrained
            wanted = edit(before)
            if whole:
                self._untrained = ()
            else:
                wanted, stale = without_stale_training(before, wanted)
                if stale:
                    self._untrained = stale
                    places = [step for step in before.steps if step not in stale]
                    self._trained[type(before)(tuple(places)).hash] = before
                if wanted.hash in self._trained and wanted != before:
                    wanted, self._untrained = self._trained[wanted.hash], ()
            generation = session.apply(wanted)
            if move is not None:
                self._moves = (*self._moves[1 - MOVES :], (generation, move))
        if self._untrained != untold:
            self._tell()
        return generation

    def move_of(self, generation: int) -> int:
        """Return the page's number of the last move that had been heard of when ``generation`` began; 0 for none."""
        with self._lock:
            return next((move for begun, move in reversed(self._moves) if begun <= generation), 0)


def _first_marks(session: Session) -> Marks:
    largest = max(session.layers, key=lambda layer: layer.params, default=None)
    return Marks([largest.name] if largest else [])


#: The marks of a Session; at first its largest layer is selected.
marks_of: PerSession[Marks] = PerSession(_first_marks)
