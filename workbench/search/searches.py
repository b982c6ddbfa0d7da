"""The allocation of one Session and its front: what was found, and the job that runs.

They hang on the Session, so that every view of it shows the same search, and what was found is there when someone comes
back.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from workbench.attached import OneJob, PerSession
from workbench.jobs import Progress

from .allocation import Allocation
from .budget import Budget
from .front import FrontJob, FrontPoint
from .job import AllocationJob

if TYPE_CHECKING:
    from workbench.session import Session


class Searches(OneJob):
    """Allocations of one Session, one at a time.

    ``found`` is the last answer, None before the first; ``doing`` the name of the stage that the search is in.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: Allocation | None = None
        self.doing = ""

    def start(
        self, session: Session, budget: Budget, methods: Sequence[str] = (), locked: Collection[str] = ()
    ) -> AllocationJob:
        """Start a search; one that runs is cancelled. Raises ``WorkbenchError`` as ``AllocationJob`` does."""
        job = AllocationJob(session, budget, methods, locked=locked)

        def forget() -> None:
            self.found = None

        def note(_: Progress) -> None:
            self.doing, self.found = job.doing, job.latest

        self._begin(job, note, reset=forget)
        return job


class Fronts(OneJob):
    """Fronts of one Session, one at a time.

    ``points`` are the last front so far, by rising size; ``remark`` says what of the recipe is left out of it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.points: tuple[FrontPoint, ...] = ()
        self.remark = ""

    def start(
        self, session: Session, trials: int, methods: Sequence[str] = (), locked: Collection[str] = ()
    ) -> FrontJob:
        """Start a search; one that runs is cancelled. Raises ``WorkbenchError`` as ``FrontJob`` does."""
        job = FrontJob(session, trials, methods, locked=locked)

        def forget() -> None:
            self.points, self.remark = (), job.untrained

        def note(_: Progress) -> None:
            self.points = job.latest

        self._begin(job, note, reset=forget)
        return job


#: The fronts of a Session.
fronts_of: PerSession[Fronts] = PerSession(lambda session: Fronts())
#: The searches of a Session.
searches_of: PerSession[Searches] = PerSession(lambda session: Searches())
