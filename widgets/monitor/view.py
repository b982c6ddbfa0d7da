"""Watching a deployed model: drift of each feature, falling confidence, latency, agreement with the dense model.

What is watched is a rehearsal of the present setting, with the session's own images as traffic; a ``serve-monitor``
that runs somewhere, asked over HTTP; or a ``Monitor`` of the person's own: ``MonitorView(monitor=monitor)``. While
nobody looks, nothing is sent and nobody is asked.
"""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
import traitlets

from workbench.errors import WorkbenchError
from workbench.jobs import Job, Progress

from ..base import plots
from ..base.view import View, script, style
from ..base.words import in_words
from .figure import draw_drift

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

    from workbench.deploy.monitor.watch import Monitor
    from workbench.session import Session
    from workbench.snapshot import Snapshot

#: Features in the order in which they are shown, with what they are.
FEATURES = {
    "brightness": "Images: mean", "contrast": "Images: spread", "detail": "Images: detail",
    "confidence": "Answers: confidence", "margin": "Answers: margin", "class": "Answers: classes",
}  # fmt: skip
#: Windows of which the course is kept, alarms told, and seconds between two looks.
WINDOWS, TOLD, PACE = 120, 5, 0.5
#: Images of a rehearsal asked for at once; it takes half of one core at most.
TURN = 32
#: Set in the kernels of the served app, whose pages may only ask monitors on the same machine.
SERVED = "WORKBENCH_SERVED"
LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})

Look = Callable[[], Mapping[str, Any]]


class MonitorView(View):
    """``status`` holds the figures last read, ``course`` a float32 row for each window: predictions, then every PSI.

    ``source`` is "here" (a rehearsal), "server" (at ``url``) or "own"; ``watching`` says what is watched, empty while
    nothing is.
    """

    _esm = script("base/study.js", "monitor/monitor.js")
    _css = style("base/study.css", "monitor/monitor.css")
    of_page = View.of_page | {"source", "url", "traffic"}
    patience = 0.1

    figure_size = (plots.DOUBLE, 2.4)

    features: traitlets.Dict[str, str] = traitlets.Dict(FEATURES).tag(sync=True)
    changes: traitlets.Dict[str, str] = traitlets.Dict().tag(sync=True)
    source = traitlets.Enum(("here", "server", "own"), "here").tag(sync=True, echo_update=False)
    url = traitlets.Unicode("http://127.0.0.1:9109").tag(sync=True, echo_update=False)
    traffic = traitlets.Unicode("").tag(sync=True, echo_update=False)
    present = traitlets.Unicode("").tag(sync=True)
    watching = traitlets.Dict().tag(sync=True)
    status = traitlets.Dict().tag(sync=True)
    course = traitlets.Bytes(b"").tag(sync=True, echo_update=False)
    problem = traitlets.Unicode("").tag(sync=True)

    def __init__(self, session: Session | None = None, *, monitor: Monitor | None = None, **traits: Any) -> None:
        self._job: Job[None] | None = None
        self._windows: deque[tuple[float, ...]] = deque(maxlen=WINDOWS)
        self._monitor = monitor
        super().__init__(session, **traits)
        if monitor is not None:
            self.source = "own"
            self.start()

    def begin(self, session: Session) -> None:
        """Watch nothing of the Session before."""
        from workbench.deploy.monitor.rehearsal import CHANGES

        if self.source != "own":
            self.stop()
            self.status, self.course, self.problem = {}, b"", ""
        self.changes = CHANGES

    def detach(self) -> None:
        """Stop drawing, and watching."""
        self.stop()
        super().detach()

    def draw(self, snapshot: Snapshot) -> None:
        """Say which setting a rehearsal would be of; one that runs goes on with its own."""
        with self.publishing():
            self.present = in_words(snapshot.recipe.to_data())

    def receive(self, content: dict[str, Any], buffers: list[Any]) -> None:
        """Begin or end watching."""
        match content.get("do"):
            case "start":
                self.start()
            case "stop":
                self.stop()

    def start(self) -> None:
        """Watch what ``source`` says, in the place of what is watched."""
        self.stop()
        works = {"here": self._rehearse, "server": self._ask, "own": self._follow_own}
        with self.publishing():
            self._windows.clear()
            self.status, self.course, self.problem = {}, b"", ""
            if self.source == "here" and self.session is None:
                self.problem = "Open a model first, or watch a serve-monitor."
                return
            what = {"here": self.present, "server": self.url, "own": "a monitor of this notebook"}[self.source]
            self.watching = {"source": self.source, "what": what}
            job = self._job = Job("monitor", works[self.source])
        job.subscribe(lambda progress: self._ended(job, progress))
        self._ended(job, job.progress)

    def stop(self) -> None:
        """Watch nothing any more; the last figures stay."""
        with self.publishing():
            job, self._job, self.watching = self._job, None, {}
        if job is not None:
            job.cancel()

    def plot(self, area: FigureBase) -> None:
        """Draw each feature's stability index, window by window."""
        if not self._windows:
            raise WorkbenchError("There is nothing to draw yet: the first window has not closed.")
        draw_drift(area, np.array(self._windows), list(FEATURES.values()))

    def _rehearse(self, job: Job[None]) -> None:
        """Send images through the present setting's file, for as long as someone looks."""
        from workbench.deploy.monitor.rehearsal import Rehearsal

        session = self.session
        assert session is not None
        session.give_way(lambda: job.cancelled)
        job.check()
        rehearsal = Rehearsal(session, session.recipe, check=job.check)
        try:
            told = 0.0
            while not session.closed:
                job.check()
                session.give_way(lambda: job.cancelled)
                if self._is_looked_at(job):
                    time.sleep(rehearsal.serve(TURN, self.traffic))
                    if time.monotonic() - told > PACE:
                        told = time.monotonic()
                        self._publish(job, rehearsal.monitor.status())
        finally:
            rehearsal.close()

    def _ask(self, job: Job[None]) -> None:
        from workbench.deploy.monitor.reading import read_status

        if os.environ.get(SERVED) and urlsplit(self.url.strip()).hostname not in LOCAL:
            raise WorkbenchError("This page may only ask monitors on the server's own machine: http://127.0.0.1:PORT.")
        self._look(job, lambda: read_status(self.url))

    def _follow_own(self, job: Job[None]) -> None:
        assert self._monitor is not None
        self._look(job, self._monitor.status)

    def _look(self, job: Job[None], look: Look) -> None:
        while True:
            job.check()
            if self._is_looked_at(job):
                self._publish(job, look())
                time.sleep(PACE)

    def _is_looked_at(self, job: Job[None]) -> bool:
        """Return whether anyone looks; where nobody does, after a while."""
        if not self.visible:
            time.sleep(PACE)
        return self.visible and not job.cancelled

    def _publish(self, job: Job[None], status: Mapping[str, Any]) -> None:
        drift = status["drift"]
        window = (float(status["predictions"]), *(_psi(drift.get(name)) for name in FEATURES))
        with self.publishing():
            if job is not self._job:
                return
            if drift and (not self._windows or self._windows[-1][1:] != window[1:]):
                self._windows.append(window)
                self.course = np.array(self._windows, np.float32).tobytes()
            self.status = for_page(status)

    def _ended(self, job: Job[None], progress: Progress) -> None:
        if progress.state == "running":
            return
        with self.publishing():
            if job is self._job:
                self._job, self.watching = None, {}
                self.problem = progress.error


def for_page(status: Mapping[str, Any]) -> dict[str, Any]:
    """Return a monitor's figures in short, without numbers that JSON cannot hold."""
    told = {name: status[name] for name in ("predictions", "failures", "alarms")}
    told["latency"] = {name: _short(value) for name, value in status["latency_ms"].items()}
    told["drift"] = {
        name: {key: _short(entry[key]) for key in ("psi", "distance", "p", "shift")}
        for name, entry in status["drift"].items()
    }
    told["normal"] = {name: _short(value) for name, value in status["normal"].items()}
    told["latest"] = [str(alarm["sentence"]) for alarm in list(status["latest"])[-TOLD:]]
    if "shadow" in status:
        told["shadow"] = {name: _short(value) for name, value in status["shadow"].items()}
    return told


def _short(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.5g}")


def _psi(entry: Mapping[str, Any] | None) -> float:
    value = None if entry is None else entry["psi"]
    return math.nan if value is None else float(value)
