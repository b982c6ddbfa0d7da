"""What a person does to the settings kept in the history: name, star, delete, restore, and take away as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from workbench.errors import WorkbenchError
from workbench.history.table import to_csv, to_row

if TYPE_CHECKING:
    from workbench.session import Session

    from .trials import Trial, Trials


class Keeper:
    """Changes settings in the history and in the list of trials alike; places count in that list."""

    def __init__(self, session: Session, trials: Trials) -> None:
        self._session, self._trials = session, trials

    def name(self, place: int, name: str) -> None:
        """Give a setting a name; an empty one takes it away. Raises ``WorkbenchError`` where it is not kept."""
        identity = self._identity(place)
        self._session.history.rename(identity, name)
        self._trials.mark(place, name=self._session.history.record(identity).name)

    def star(self, places: Sequence[int], starred: bool) -> None:
        """Star settings, or take their stars away."""
        for place in places:
            self._session.history.star(self._identity(place), starred)
            self._trials.mark(place, starred=starred)

    def delete(self, places: Sequence[int]) -> tuple[int, ...]:
        """Delete settings and return the places of those deleted; the present one and the dense model stay."""
        stay = {self._trials.place(self._session.snapshot.recipe_hash), *self._dense()}
        going = tuple(place for place in places if place not in stay and not self._trial(place).deleted)
        if not going:
            raise WorkbenchError("The present setting and the dense model cannot be deleted; choose another setting.")
        kept = [identity for place in going if (identity := self._trial(place).identity) is not None]
        self._session.history.delete(*kept)
        for place in going:
            self._trials.mark(place, deleted=True)
        return going

    def restore(self, places: Sequence[int]) -> None:
        """Bring deleted settings back."""
        kept = [identity for place in places if (identity := self._trial(place).identity) is not None]
        self._session.history.restore(*kept)
        for place in places:
            self._trials.mark(place, deleted=False)

    def csv(self, places: Sequence[int]) -> bytes:
        """Return settings as CSV; those not kept in the history are left out."""
        history, key = self._session.history, self._session.key
        wanted = {self._trial(place).identity for place in places}
        records = [record for record in self._session.records() if record.id in wanted]
        return to_csv(to_row(history.key_of(record.id) if record.id else key, record) for record in records).encode()

    def _dense(self) -> list[int]:
        return [place for place, trial in enumerate(self._trials.all) if trial.recipe == "[]"]

    def _trial(self, place: int) -> Trial:
        trials = self._trials.all
        if not 0 <= place < len(trials):
            raise WorkbenchError("This setting is not known here any more; reload the page.")
        return trials[place]

    def _identity(self, place: int) -> int:
        identity = self._trial(place).identity
        if identity is None:
            raise WorkbenchError("This setting is not kept yet: it was left before every image was run.")
        return identity
