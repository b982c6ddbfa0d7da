"""The trainings of one Session: several queued, as many running as the machine has cores to spare.

They hang on the Session, so that every view of it shows the same, and what was trained is there when someone
comes back. One that ends while the Session still has the recipe it started from is applied, and so is measured
and kept in the history with that recipe as its parent; any other can be applied later.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from workbench.attached import PerSession, Watched
from workbench.errors import WorkbenchError
from workbench.jobs import Progress
from workbench.recipe import Recipe
from workbench.techniques import Cost

from ..loop.loop import Point
from .job import TrainingJob, check_data, train
from .ladder import RUNGS, Climb, Climbed, Rung, Tried, climb, rungs_for
from .process import Place

if TYPE_CHECKING:
    from workbench.session import Session

State = Literal["queued", "running", "paused", "done", "cancelled", "failed"]


CLOSED = "This session is closed; open a new one."


@dataclass(frozen=True)
class Entry:
    """One training: what it is, where it started from, and how far it is.

    Accuracies are shares of the validation split; ``left`` and ``seconds`` are seconds, without those at rest;
    ``doing`` says what is under way, ``note`` what was measured of its steps and why it ended early. ``result`` is
    the recipe that it came to.
    """

    id: int
    title: str
    base: Recipe
    state: State = "queued"
    doing: str = ""
    share: float = 0.0
    left: float | None = None
    seconds: float = 0.0
    before: float | None = None
    after: float | None = None
    curve: tuple[Point, ...] = ()
    result: Recipe | None = None
    applied: bool = False
    error: str = ""
    note: str = ""

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.state in ("done", "cancelled", "failed")


class Trainings(Watched):
    """Trainings of one Session."""

    def __init__(self, session: Session, place: Callable[[], Place | None] = lambda: None) -> None:
        super().__init__()
        self.budget = max(1, (os.cpu_count() or 2) - 1)
        self._session = weakref.ref(session)
        self._place = place
        self._entries: dict[int, Entry] = {}
        self._starts: dict[int, Callable[[], TrainingJob | Climb]] = {}
        self._jobs: dict[int, TrainingJob | Climb] = {}
        self._tried: dict[str, dict[str, Tried]] = {}
        self._pace: dict[str, float] = {}
        self._count = 0
        self._closed = False
        session.on_close(self.close)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All trainings, oldest first."""
        with self._lock:
            return tuple(self._entries.values())

    @property
    def pace(self) -> Mapping[str, float]:
        """Seconds that an image took in an epoch, by technique, where one has been measured."""
        with self._lock:
            return dict(self._pace)

    def tried(self, recipe: Recipe) -> Mapping[str, Tried]:
        """Return what each rung came to that stood on ``recipe``, or on it without its repairs at the end."""
        with self._lock:
            return dict(self._tried.get(stem(recipe).hash, {}))

    def train(self, recipe: Recipe, base: Recipe, title: str) -> Entry:
        """Queue the training of ``recipe``, which came from ``base``. Raises ``WorkbenchError`` as ``train`` does."""
        session = self._present()
        check_data(session.data, recipe)
        if any(entry.result == recipe and not entry.over for entry in self.entries):
            raise WorkbenchError("This training is running or waiting already.")
        start = _starter(train, session.model, session.data, recipe, 1, self._place())
        return self._add(Entry(0, title, base, result=recipe), start)

    def climb(self, base: Recipe, within: float | None, rungs: Sequence[Rung], title: str) -> Entry:
        """Queue a climb from ``base``; see ``workbench.train.jobs.ladder``."""
        session = self._present()
        start = _starter(climb, session.model, session.data, base, within, rungs, 1, self._place())
        return self._add(Entry(0, title, base), start)

    def rungs(self) -> tuple[Rung, ...]:
        """Return the rungs that the Session's model can stand on."""
        session = self._session()
        return () if session is None else rungs_for(session.model)

    def pause(self, entry: int) -> None:
        """Let a training rest."""
        self._command(entry, "running", "paused", "pause")

    def resume(self, entry: int) -> None:
        """Let a training that rests go on."""
        self._command(entry, "paused", "running", "resume")

    def cancel(self, entry: int) -> None:
        """End a training; the same one started again goes on from where it was."""
        with self._lock:
            found, job = self._entries.get(entry), self._jobs.get(entry)
            if found is not None and found.state == "queued":
                self._entries[entry] = replace(found, state="cancelled")
                self._starts.pop(entry, None)
        if job is not None:
            job.cancel()
        self._tell()

    def close(self) -> None:
        """End all trainings, those that rest or wait too: their Session is closed. Checkpoints are kept."""
        with self._lock:
            self._closed = True
            for number in self._starts:
                self._entries[number] = replace(self._entries[number], state="cancelled")
            self._starts.clear()
            jobs = [job for job in self._jobs.values() if job.running]
        for job in jobs:
            job.cancel()
        self._tell()

    def remove(self, entry: int) -> None:
        """Take a training that has ended off the list."""
        with self._lock:
            if entry in self._entries and self._entries[entry].over:
                del self._entries[entry]
                self._jobs.pop(entry, None)
        self._tell()

    def apply(self, entry: int) -> None:
        """Set the Session's recipe to what a training came to."""
        session, found = self._session(), self._entries.get(entry)
        if session is not None and found is not None and found.state == "done" and found.result is not None:
            session.apply(found.result)
            self._change(entry, applied=True)

    def _present(self) -> Session:
        session = self._session()
        if session is None or session.closed:
            raise WorkbenchError(CLOSED)
        return session

    def _add(self, entry: Entry, start: Callable[[], TrainingJob | Climb]) -> Entry:
        with self._lock:
            if self._closed:  # meanwhile
                raise WorkbenchError(CLOSED)
            self._count += 1
            entry = replace(entry, id=self._count)
            self._entries[entry.id] = entry
            self._starts[entry.id] = start
        self._fill()
        return self._entries[entry.id]

    def _fill(self) -> None:
        """Start what waits, while there are cores."""
        with self._lock:
            while self._starts and sum(not self._entries[number].over for number in self._jobs) < self.budget:
                number = next(iter(self._starts))
                start = self._starts.pop(number)
                try:
                    job = start()
                except WorkbenchError as error:
                    self._entries[number] = replace(self._entries[number], state="failed", error=str(error))
                    continue
                self._jobs[number] = job
                self._entries[number] = replace(self._entries[number], state="running")
                self._listen(number, job)
        self._tell()

    def _listen(self, number: int, job: TrainingJob | Climb) -> None:
        job.subscribe(lambda progress: self._follow(number, job, progress))
        if not job.running:  # it ended before it was listened to
            self._follow(number, job, job.progress)

    def _follow(self, number: int, job: TrainingJob | Climb, progress: Progress) -> None:
        if number not in self._entries or self._entries[number].over:
            return
        self._note_pace(job)
        state: State = progress.state if progress.state != "running" else "paused" if job.paused else "running"
        told: dict[str, Any] = {
            "state": state, "share": progress.share, "left": progress.left, "seconds": progress.seconds - job.still,
            "error": progress.error,
        }  # fmt: skip
        training = job if isinstance(job, TrainingJob) else job.training
        if training is not None and training.curve:
            told |= {"curve": training.curve, "before": training.before}
        if training is not None and training.note:
            told["note"] = training.note
        if isinstance(job, TrainingJob):
            told["doing"] = job.doing
        else:
            told["doing"] = next((rung.title for rung in job.rungs if rung.name == job.rung), "")
            self._note_rungs(self._entries[number].base, job.tried)
        if state == "done":
            told |= self._came_to(job)
        self._change(number, **told)
        if progress.state != "running":
            if state == "done":
                self._apply_if_unmoved(number)
            self._fill()

    def _came_to(self, job: TrainingJob | Climb) -> dict[str, Any]:
        result = job.result()
        told = {"before": result.before.value, "after": result.after.value, "result": result.recipe, "share": 1.0}
        if isinstance(result, Climbed):
            return told
        return {**told, "curve": result.curve, "note": f"{result.stopped} {result.note}".strip()}

    def _note_rungs(self, base: Recipe, tried: Sequence[Tried]) -> None:
        with self._lock:
            known = self._tried.setdefault(stem(base).hash, {})
            known.update({one.rung: one for one in tried})

    def _note_pace(self, job: TrainingJob | Climb) -> None:
        training = job if isinstance(job, TrainingJob) else job.training
        if training is None or not training.curve or not training.images:
            return
        last = training.curve[-1]
        with self._lock:
            self._pace[training.technique] = last.seconds / last.epoch / training.images

    def _apply_if_unmoved(self, number: int) -> None:
        session, entry = self._session(), self._entries[number]
        if session is None or session.closed or entry.result is None:
            return
        if session.recipe == entry.base or session.recipe == entry.result:
            session.apply(entry.result)
            self._change(number, applied=True)

    def _command(self, number: int, held: State, becomes: State, name: str) -> None:
        job = self._jobs.get(number)
        if job is not None and self._entries[number].state == held:
            getattr(job, name)()
            self._change(number, state=becomes)

    def _change(self, number: int, **what: Any) -> None:
        with self._lock:
            if number in self._entries:
                self._entries[number] = replace(self._entries[number], **what)
        self._tell()


def stem(recipe: Recipe) -> Recipe:
    """Return ``recipe`` without the repairs and trained steps at its end: what the rungs' figures belong to."""
    repairs = {name for rung in RUNGS for step in rung.steps for name in step}
    steps = list(recipe.steps)
    while steps and (steps[-1].technique in repairs or steps[-1].cost is Cost.TRAINED):
        steps.pop()
    return Recipe(tuple(steps))


def _starter(start: Callable[..., TrainingJob | Climb], *given: Any) -> Callable[[], TrainingJob | Climb]:
    return lambda: start(*given)


#: The trainings of a Session.
trainings_of: PerSession[Trainings] = PerSession(Trainings)
