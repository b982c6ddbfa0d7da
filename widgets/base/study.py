"""What views of a study have in common: something about the present setting that takes seconds to find out.

Nothing runs until the person asks, and then on a Job's thread, after the setting has settled. A setting that moves
on ends the Job at its next check. What was found stays on display, marked as of the setting before, until the new
one is studied; going back to a setting that was studied shows what was found.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

import traitlets

from workbench.jobs import Job, Progress

from .view import View
from .words import in_words

if TYPE_CHECKING:
    from workbench.recipe import Recipe
    from workbench.session import Session
    from workbench.snapshot import Snapshot

#: Findings kept, and seconds between two messages about a running Job.
KEPT, PACE = 16, 0.2

#: Puts what a Job found on display; called under the view's lock.
Show = Callable[[], None]


class StudyView(View):
    """``wanted`` says what a study would be of, ``shown`` what the one on display is of.

    Subclasses write ``study``, ``show`` and ``clear``, and where a finding depends on more than the recipe ``wish``.
    ``course`` is the running Job: what it does, its share done and seconds left.
    """

    patience = 0.1

    wanted = traitlets.Dict().tag(sync=True)
    shown = traitlets.Dict().tag(sync=True)
    course = traitlets.Dict().tag(sync=True)
    problem = traitlets.Unicode("").tag(sync=True)

    def __init__(self, session: Session | None = None, **traits: Any) -> None:
        self._kept: dict[Hashable, Any] = {}
        self._job: Job[Show] | None = None
        self._doing = self._of = ""
        self._asked: tuple[Any, ...] = ()
        self._said = 0.0
        super().__init__(session, **traits)

    def wish(self) -> tuple[Any, ...]:
        """Return what a finding depends on beside the recipe, as plain data."""
        return ()

    def study(self, session: Session, recipe: Recipe, job: Job[Show]) -> Any:
        """Find it out, telling ``job`` how far it has come; on the Job's thread, with no lock held."""
        raise NotImplementedError

    def show(self, finding: Any) -> None:
        """Set the traits that show ``finding``; called under the lock."""
        raise NotImplementedError

    def clear(self) -> None:
        """Set the traits to nothing, for a new Session."""
        raise NotImplementedError

    def begin(self, session: Session) -> None:
        """Forget what was found of the Session before."""
        self.stop()
        self._kept = {}
        self.wanted, self.shown, self.problem = {}, {}, ""
        self.clear()

    def detach(self) -> None:
        """Stop drawing, and what runs for it."""
        self.stop()
        super().detach()

    def draw(self, snapshot: Snapshot) -> None:
        """Say what a study would be of now, and show it where it is known."""
        with self.publishing():
            if self.session is not None and self._of != self.session.recipe.hash:
                self.stop()
                self._of, self.problem = self.session.recipe.hash, ""
            self._want(snapshot)

    def receive(self, content: dict[str, Any], buffers: list[Any]) -> None:
        """Start or stop the study."""
        match content.get("do"):
            case "start":
                self.start()
            case "stop":
                self.stop()

    def start(self) -> None:
        """Study the present setting."""
        session = self.session
        if session is None:
            return
        recipe, key = session.recipe, self._key(session.recipe)

        def work(job: Job[Show]) -> Show:
            finding = self.study(session, recipe, job)

            def keep() -> None:
                self._kept[key] = finding
                while len(self._kept) > KEPT:
                    self._kept.pop(next(iter(self._kept)))
                self._recall(recipe)

            return keep

        self.launch("study", work)

    def launch(self, what: str, work: Callable[[Job[Show]], Show]) -> None:
        """Run ``work`` in the place of what runs, once the present setting has settled; show what it returns."""
        session = self.session
        if session is None:
            return

        def whole(job: Job[Show]) -> Show:
            session.give_way(lambda: job.cancelled)
            job.check()
            return work(job)

        self.stop()
        with self.publishing():
            self._doing, self._of, self.problem = what, session.recipe.hash, ""
            self._asked = self.wish()
            self.course = {"what": what, "share": 0.0, "left": None}
            job = self._job = Job(f"{type(self).__name__.removesuffix('View').lower()}", whole)
        job.subscribe(lambda progress: self._follow(job, progress))
        self._follow(job, job.progress)  # it may have ended before it was listened to

    def stop(self) -> None:
        """End what runs; what is on display stays."""
        with self.publishing():
            job, self._job, self.course = self._job, None, {}
        if job is not None:
            job.cancel()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the running Job has ended; return whether it has."""
        job = self._job
        return job is None or job.wait(timeout)

    def refresh(self) -> None:
        """Say anew what is wanted, after the wish has changed; what runs for another one ends."""
        if self.session is not None:
            with self.publishing():
                if self._asked != self.wish():
                    self.stop()
                self._want(self.session.snapshot)

    def _key(self, recipe: Recipe) -> tuple[str, tuple[Any, ...]]:
        return recipe.hash, self.wish()

    def _want(self, snapshot: Snapshot) -> None:
        self.wanted = {
            "recipe": snapshot.recipe_hash, "wish": list(self.wish()), "words": in_words(snapshot.recipe.to_data()),
            "settled": snapshot.settled and not snapshot.error,
        }  # fmt: skip
        self._recall(snapshot.recipe)

    def _recall(self, recipe: Recipe) -> None:
        """Show what is known of ``recipe``."""
        key = self._key(recipe)
        if key in self._kept:
            self.shown = {"recipe": key[0], "wish": list(key[1]), "words": in_words(recipe.to_data())}
            self.show(self._kept[key])

    def _follow(self, job: Job[Show], progress: Progress) -> None:
        now = time.monotonic()
        if progress.state == "running" and now - self._said < PACE:
            return
        self._said = now
        with self.publishing():
            if job is not self._job:
                return
            if progress.state == "running":
                left = None if progress.left is None else round(progress.left, 1)
                self.course = {"what": self._doing, "share": round(progress.share, 3), "left": left}
                return
            self._job, self.course = None, {}
            if progress.state == "failed":
                self.problem = progress.error
            elif progress.state == "done":
                job.result()()
