"""The sensitivity sweeps of one Session: what each has found, and the one that runs.

They hang on the Session, so that every view of it shows the same sweep and a finished one is there when
someone comes back. A sweep that is started again refines what the one before found: of each cell the
figure from more images is kept. They are also kept in the history, as they come: another day they are there
again, and what was stopped or killed goes on where it was.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from workbench.attached import OneJob, PerSession
from workbench.compression import draft_for
from workbench.errors import WorkbenchError
from workbench.jobs import Progress
from workbench.recipe import Recipe

from .finding import Mode
from .keeping import recall_all
from .sensitivity import Sensitivity, measure_sensitivity
from .surrogate import REMEMBERED, AccuracySurrogate

if TYPE_CHECKING:
    from workbench.footing import Footing
    from workbench.history import Record
    from workbench.session import Session
    from workbench.snapshot import Snapshot

    from .sweep import SensitivityJob


class Studies(OneJob):
    """Sweeps of one Session, one at a time."""

    def __init__(self) -> None:
        super().__init__()
        self._found: dict[tuple[str, Mode], Sensitivity] = {}
        self._recalled: set[tuple[str, float]] = set()
        self._surrogate: AccuracySurrogate | None = None
        self.technique = ""
        self.mode: Mode = "only"
        self.trouble = ""
        self.tolerance: float | None = None

    @property
    def found(self) -> Mapping[str, Sensitivity]:
        """What is known of each technique where a layer alone is compressed."""
        with self._lock:
            return {technique: found for (technique, mode), found in self._found.items() if mode == "only"}

    def of(self, technique: str, mode: Mode) -> Sensitivity | None:
        """Return what is known of a technique in a mode."""
        with self._lock:
            return self._found.get((technique, mode))

    def recall(self, session: Session) -> None:
        """Take up the sweeps of all layers that the history keeps since it was last looked at.

        Of a cell that is known here too, the figure from more images stays.
        """
        whole = tuple(layer.name for layer in session.layers)
        _ = session.key  # may be waited for, and not under the lock
        with self._lock:
            kept, foreseen = recall_all(session, self._recalled), bool(self.found)
        for found in kept:
            question = found.question
            if question.layers == whole and question.mode in ("only", "others") and (found.n > 0).any():
                slot = question.technique, question.mode
                with self._lock:
                    mine = self._found.get(slot)
                    self._found[slot] = mine.refining(found) if mine else found
        if self.found and not foreseen:
            self._foresee_later(session)

    def start(
        self, session: Session, technique: str, tolerance: float | None = None, mode: Mode = "only"
    ) -> SensitivityJob:
        """Start a sweep of ``technique``'s dial over all layers; one that runs is cancelled.

        It goes on from what the history keeps of the same. Raises ``WorkbenchError`` as ``measure_sensitivity`` does.
        """
        job = measure_sensitivity(session, technique, tolerance=tolerance, mode=mode, keep=True)

        def name() -> None:
            self.technique, self.mode, self.tolerance = technique, mode, tolerance

        def note(_: Progress) -> None:
            latest = job.latest
            if latest is not None:
                before = self._found.get((technique, mode))
                self._found[technique, mode] = latest.refining(before) if before else latest
            self.trouble = job.trouble

        def settle(progress: Progress) -> None:
            if progress.state in ("done", "cancelled"):
                self._foresee(session)

        self._begin(job, note, reset=name, settle=settle)
        return job

    def _foresee_later(self, session: Session) -> None:
        """Foresee once the dense model has been measured, which a sweep that is recalled does not wait for."""

        def follow(snapshot: Snapshot) -> None:
            if snapshot.baseline.score is not None and not begun.is_set():
                begun.set()
                threading.Thread(target=self._foresee, args=(session,), name="workbench-foresee", daemon=True).start()

        begun = threading.Event()
        session.subscribe(follow)

    def _foresee(self, session: Session) -> None:
        """Let the Session foresee the accuracy of recipes from what is known."""
        if session.closed:
            return
        footing = session.footing()
        with self._lock:
            surrogate = self._surrogate
            if surrogate is None:
                chance = 1 / len(session.data.classes)
                surrogate = self._surrogate = AccuracySurrogate(footing.subject, chance)
                session.subscribe(_noting(surrogate))
            surrogate.learn(self.found.values())
        if surrogate.ready:
            _look_back(surrogate, session, footing)
            session.foresee(surrogate)


def points_lost(found: Mapping[str, Sensitivity]) -> dict[str, float]:
    """Return layer → points lost at the middle level, the worst over what was swept; unknown layers are left out."""
    worst: dict[str, float] = {}
    for sensitivity in found.values():
        lost = 100 * sensitivity.lost[:, len(sensitivity.levels) // 2]
        for name, points in zip(sensitivity.layers, lost, strict=True):
            if not np.isnan(points):
                worst[name] = max(float(points), worst.get(name, -np.inf))
    return worst


def _noting(surrogate: AccuracySurrogate) -> Callable[[Snapshot], None]:
    """Return a listener that tells the surrogate what recipes truly have."""

    def note(snapshot: Snapshot) -> None:
        score = snapshot.score
        if snapshot.settled and score is not None and score.kind == "exact":
            surrogate.note(snapshot.recipe_hash, score.value)

    return note


def _look_back(surrogate: AccuracySurrogate, session: Session, footing: Footing) -> None:
    """Let the surrogate learn from what the history holds of this model, newest first, for a second at most."""
    end = time.monotonic() + 1
    for record in reversed(_records(session)):
        if time.monotonic() > end or session.closed:
            return
        with contextlib.suppress(WorkbenchError):  # a recipe of another version
            recipe = Recipe.parse(record.recipe)
            same = recipe.hash == record.recipe_hash  # not where a version calibrated otherwise
            if same and record.n == len(session.split) and surrogate.covers(recipe):
                draft = draft_for(footing.subject, recipe, footing.context)
                surrogate.note_past(recipe, draft.thresholds, draft.edits, record.score)


def _records(session: Session) -> list[Record]:
    try:
        return session.records()[-REMEMBERED:]
    except WorkbenchError:  # the history can't be read: then there is nothing to learn from
        return []


#: The sweeps of a Session.
studies_of: PerSession[Studies] = PerSession(lambda session: Studies())
