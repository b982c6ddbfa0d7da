"""What the model does differently: the present setting against the dense model or any measured one.

One part is shown at a time and only that part is computed, on a Job's thread, when the present setting has settled
and someone looks. A setting that moves on ends the Job at its next batch; what was found stays on display, marked
as of the setting before, until the new one is known. Corruptions run thousands of images, so they wait for a click.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

import traitlets

from workbench.analyze.attribution import METHODS
from workbench.analyze.behaviour import Pair
from workbench.errors import WorkbenchError
from workbench.jobs import Cancelled, Job, Progress
from workbench.recipe import Recipe

from ..base import plots
from ..base.view import View, script, style
from ..base.words import in_words
from ..examples.pixels import Palette
from .figure import draw_behaviour
from .finders import Found, Wish, find, of_image, picks_of
from .settings import Offers

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

    from workbench.session import Session
    from workbench.snapshot import Snapshot

#: The parts, in the page's order, each with the question that it answers.
PARTS = {
    "classes": "Classes",
    "confusion": "Confusion",
    "calibration": "Confidence",
    "teacher": "Teacher",
    "drift": "Drift",
    "attribution": "Attribution",
    "corruptions": "Corruptions",
}
#: Findings kept, so that going back shows them at once.
KEPT = 64
#: Seconds between two messages about a running Job, and small pictures a page may ask for at once.
PACE, ASKED = 0.2, 64


class BehaviourView(View):
    """One part of the comparison; ``found`` is its data, ``shown`` tells what it is of, ``wanted`` what is wanted."""

    _esm = script(
        "examples/images.js", "behaviour/classes.js", "behaviour/confusion.js", "behaviour/reliability.js",
        "behaviour/drift.js", "behaviour/teacher.js", "behaviour/attribution.js", "behaviour/corruptions.js",
        "behaviour/behaviour.js",
    )  # fmt: skip
    _css = style("behaviour/behaviour.css")

    figure_size = (plots.DOUBLE, 3.4)
    patience = 0.1

    parts: traitlets.Dict[str, str] = traitlets.Dict(PARTS).tag(sync=True)
    methods: traitlets.Dict[str, str] = traitlets.Dict(METHODS).tag(sync=True)
    part = traitlets.Enum(tuple(PARTS), next(iter(PARTS))).tag(sync=True, echo_update=False)
    method = traitlets.Enum(tuple(METHODS), next(iter(METHODS))).tag(sync=True, echo_update=False)
    target = traitlets.Int(-1).tag(sync=True, echo_update=False)
    image = traitlets.Int(-1).tag(sync=True, echo_update=False)
    classes: traitlets.List[str] = traitlets.List().tag(sync=True)
    pool = traitlets.Unicode("").tag(sync=True)
    picks: traitlets.List[int] = traitlets.List().tag(sync=True)
    offers: traitlets.List[dict[str, str]] = traitlets.List().tag(sync=True)
    against = traitlets.Unicode("").tag(sync=True, echo_update=False)
    wanted = traitlets.Dict().tag(sync=True)
    shown = traitlets.Dict().tag(sync=True)
    found = traitlets.Dict().tag(sync=True)
    maps = traitlets.Bytes(b"").tag(sync=True, echo_update=False)
    pixels = traitlets.Bytes(b"").tag(sync=True, echo_update=False)
    course = traitlets.Dict().tag(sync=True)
    problem = traitlets.Unicode("").tag(sync=True)

    def __init__(self, session: Session | None = None, **traits: Any) -> None:
        self._kept: dict[Wish, Found] = {}
        self._job: Job[None] | None = None
        self._wish: Wish | None = None
        self._picked: tuple[str, str] = ("", "")
        self._said = 0.0
        super().__init__(session, **traits)
        self.observe(lambda _: self.refresh(), ["part", "method", "target", "image", "against"])

    def begin(self, session: Session) -> None:
        """Forget what was found of the Session before."""
        self._stop()
        self._kept, self._picked = {}, ("", "")
        self._palette, self._offers = Palette(session.split), Offers(session)
        self.classes, self.pool = [str(name) for name in session.data.classes], session.place.data_hash
        self.picks, self.offers, self.against, self.image, self.target = [], [], Recipe().hash, -1, -1
        self.wanted, self.shown, self.found, self.course = {}, {}, {}, {}
        self.maps, self.pixels, self.problem = b"", b"", ""

    def detach(self) -> None:
        """Stop drawing, and what runs for it."""
        self._stop()
        super().detach()

    def draw(self, snapshot: Snapshot) -> None:
        """Say which setting is compared; when it has settled, find the part shown."""
        with self.publishing():
            self.wanted = {"recipe": snapshot.recipe_hash, "settled": snapshot.settled, **self._names(snapshot.recipe)}
        if snapshot.settled and not snapshot.error and self.session is not None:
            offers = self._offers.refresh()
            with self.publishing():
                self.offers = offers
            self.refresh()

    def refresh(self, ask: bool = False) -> None:
        """Show the part that is wanted, and find it where it is not known; ``ask``: corruptions too."""
        session = self.session
        if session is None or not self.visible:
            return
        snapshot = session.snapshot
        if not snapshot.settled or snapshot.error:
            return
        pair = Pair(session, self._offers.recipe(self.against), snapshot.recipe)
        with self.publishing():
            self.wanted = {"recipe": snapshot.recipe_hash, "settled": True, **self._names(snapshot.recipe)}
            try:
                wish = self._wish_for(pair)
            except WorkbenchError as error:  # a history that lost the answers
                self.problem = str(error)
                return
            known = self._kept.get(wish)
            if known is not None:
                self._stop()
                self._show(wish, known)
            elif self._job is not None and self._job.running and self._wish == wish:
                return  # a Snapshot that says nothing new must not end it
            elif self.part != "corruptions" or ask:
                self._start(wish, pair)
            else:
                self._stop()
                self.course = {"state": "ask"}

    def receive(self, content: dict[str, Any], buffers: list[Any]) -> None:
        """Send small pictures; start or stop what takes long."""
        if self.session is None:
            return
        match content.get("do"):
            case "images":
                self._send_pictures([int(image) for image in content["images"]][:ASKED])
            case "start":
                self.refresh(ask=True)
            case "stop":
                self._stop()
                with self.publishing():
                    self.course = {"state": "ask"}

    def plot(self, area: FigureBase) -> None:
        """Draw the part on display."""
        if not self.found:
            raise WorkbenchError("There is nothing to draw yet: open the view and let it find its part first.")
        draw_behaviour(area, dict(self.shown), dict(self.found), list(self.classes), (self.maps, self.pixels))

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the running Job has ended; return whether it has."""
        job = self._job
        return job is None or job.wait(timeout)

    def _names(self, present: Recipe) -> dict[str, Any]:
        against = self._offers.recipe(self.against)
        return {
            "against": self.against, "before": in_words(against.to_data()), "after": in_words(present.to_data()),
            "same": against.hash == present.hash,
        }  # fmt: skip

    def _wish_for(self, pair: Pair) -> Wish:
        wish = Wish(self.part, pair.before.hash, pair.after.hash)
        if self.part != "attribution":
            return wish
        if self._picked != (wish.before, wish.after):
            self._picked = wish.before, wish.after
            self.picks = picks_of(pair)
        total = len(pair.session.split)
        image = self.image if 0 <= self.image < total else self.picks[0]
        return of_image(wish, image, self.target, self.method)

    def _start(self, wish: Wish, pair: Pair) -> None:
        self._stop()
        self._wish, self.problem = wish, ""
        self.course = {"state": "running", "share": 0.0, "left": None}
        self._job = Job(PARTS[wish.part].lower(), partial(self._work, wish, pair))
        self._job.subscribe(partial(self._follow, wish))
        self._follow(wish, self._job.progress)

    def _stop(self) -> None:
        job, self._job, self._wish = self._job, None, None
        if job is not None:
            job.cancel()

    def _work(self, wish: Wish, pair: Pair, job: Job[None]) -> None:
        def check() -> None:
            job.check()
            if pair.session.closed or pair.session.recipe.hash != pair.after.hash:
                raise Cancelled

        if wish.part not in ("classes", "confusion"):  # these two run no images
            pair.session.give_way(lambda: job.cancelled)
        check()
        for found in find(wish, pair, self._palette, check, job.advance):
            with self.publishing():
                if self._wish == wish:
                    self._show(wish, found)

    def _show(self, wish: Wish, found: Found) -> None:
        self.found, self.maps, self.pixels, self.problem = found.data, found.maps, found.pixels, ""
        self.shown = {"part": wish.part, "recipe": wish.after, "against": wish.before, **self._told()}
        if found.whole:
            self._kept[wish] = found
            while len(self._kept) > KEPT:
                self._kept.pop(next(iter(self._kept)))
            self.course = {"state": "done"}

    def _told(self) -> dict[str, str]:
        return {"before": self.wanted.get("before", ""), "after": self.wanted.get("after", "")}

    def _follow(self, wish: Wish, progress: Progress) -> None:
        now = time.monotonic()
        if progress.state == "running" and now - self._said < PACE:
            return
        self._said = now
        with self.publishing():
            if self._wish != wish:
                return
            if progress.state == "running":
                left = None if progress.left is None else round(progress.left, 1)
                self.course = {"state": "running", "share": round(progress.share, 3), "left": left}
            elif progress.state == "failed":
                self.problem, self.course = progress.error, {"state": "failed"}
            elif progress.state == "cancelled":
                self.course = {"state": "ask"}

    def _send_pictures(self, images: list[int]) -> None:
        assert self.session is not None
        images = [image for image in dict.fromkeys(images) if 0 <= image < len(self.session.split)]
        if not images:
            return
        sheet, (height, width) = self._palette.sheet(images)
        content = {"do": "images", "pool": self.pool, "images": images, "height": height, "width": width}
        with self._lock:
            self.send(content, [sheet])
