"""The three headline figures: accuracy, size and latency, each with its baseline, interval and kind."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, ClassVar

import traitlets

from ..base import plots
from ..base.view import View, script, style
from . import figures

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

    from workbench.session import Session
    from workbench.snapshot import Snapshot


class ScoreboardView(View):
    """Shows the newest Snapshot's figures. A figure that does not change is not sent again."""

    figure_size: ClassVar[tuple[float, float]] = (plots.DOUBLE, 1.2)
    patience = 0.0
    _esm = script("scoreboard/scoreboard.js")
    _css = style("scoreboard/scoreboard.css")

    accuracy = traitlets.Dict(allow_none=True, default_value=None).tag(sync=True)
    size = traitlets.Dict(allow_none=True, default_value=None).tag(sync=True)
    latency = traitlets.Dict(allow_none=True, default_value=None).tag(sync=True)
    baseline = traitlets.Dict().tag(sync=True)
    progress = traitlets.Dict().tag(sync=True)
    context = traitlets.Dict().tag(sync=True)
    measuring = traitlets.Bool(False).tag(sync=True)
    problem = traitlets.Unicode("").tag(sync=True)

    def begin(self, session: Session) -> None:
        """Forget the figures of the Session before."""
        for name in ("accuracy", "size", "latency"):
            self.set_trait(name, None)
        self.baseline, self.progress, self.problem = {}, {}, ""
        splits = session.data.splits
        self.context = {"total": {name: len(split) for name, split in splits.items()}}

    def draw(self, snapshot: Snapshot) -> None:
        """Set the figures that changed; one not known yet for this Recipe keeps its last, true, state."""
        with self.publishing():
            self.accuracy = figures.accuracy_figure(snapshot) or self.accuracy
            self.size = figures.size_figure(snapshot) or self.size
            self.latency = figures.latency_figure(snapshot) or self.latency
            self.baseline = figures.baseline_figures(snapshot)
            self.progress = figures.progress(snapshot)

    def plot(self, area: FigureBase) -> None:
        """Draw the three figures beside one another."""
        from .figure import plot_scores

        if self.session is not None:
            plot_scores(area, self.session.snapshot)

    def measure(self) -> threading.Thread | None:
        """Measure the present Recipe's latency on a thread of its own; the Snapshot brings the figure."""
        with self.publishing():
            if self.measuring or self.session is None:
                return None
            self.measuring, self.problem = True, ""
        thread = threading.Thread(target=self._measure, args=(self.session,), daemon=True, name="workbench-measure")
        thread.start()
        return thread

    def _measure(self, session: Session) -> None:
        problem = ""
        try:
            session.measure_latency()
        except Exception as error:  # whatever went wrong belongs on the page, as a sentence
            problem = str(error) or type(error).__name__
        with self.publishing():
            self.measuring, self.problem = False, problem

    def receive(self, content: dict[str, Any], buffers: list[Any]) -> None:
        """Measure when the button is pressed."""
        if content.get("do") == "measure":
            self.measure()
