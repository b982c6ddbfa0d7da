"""The three headline figures: accuracy, size and latency, each with its baseline, interval and kind."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import traitlets

from workbench.analyze.compare import judge_classes
from workbench.errors import WorkbenchError
from workbench.recipe import Recipe
from workbench.snapshot import sentence

from ..base import plots
from ..base.errands import Errands
from ..base.marks import marks_of
from ..base.view import View, script, style
from . import figures

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

    from workbench.session import Session
    from workbench.snapshot import Snapshot

#: Seconds a settled recipe must last before its classes are judged: not while a hand moves over known settings.
REST = 0.15
#: The name of the device that measures.
HERE = "this-machine"


class ScoreboardView(View):
    """Shows the newest Snapshot's figures, and which classes they hide the harm of.

    Latency is of this machine, or of a described device that the person chooses; then the ratio to the baseline
    there comes first. A figure that does not change is not sent again. ``harm`` is of one recipe's exact answers,
    found on a thread of its own once that recipe has settled; ``wants`` is called with the name of a tab that the
    person asks for.
    """

    figure_size: ClassVar[tuple[float, float]] = (plots.DOUBLE, 1.2)
    patience = 0.0
    _esm = script("scoreboard/ahead.js", "scoreboard/scoreboard.js")
    _css = style("scoreboard/scoreboard.css")

    accuracy = traitlets.Dict(allow_none=True, default_value=None).tag(sync=True)
    size = traitlets.Dict(allow_none=True, default_value=None).tag(sync=True)
    latency = traitlets.Dict(allow_none=True, default_value=None).tag(sync=True)
    baseline = traitlets.Dict().tag(sync=True)
    harm = traitlets.Dict().tag(sync=True)
    progress = traitlets.Dict().tag(sync=True)
    context = traitlets.Dict().tag(sync=True)
    devices: traitlets.List[Any] = traitlets.List().tag(sync=True)
    device = traitlets.Unicode(HERE).tag(sync=True)
    measuring = traitlets.Bool(False).tag(sync=True)
    problem = traitlets.Unicode("").tag(sync=True)

    def __init__(
        self, session: Session | None = None, wants: Callable[[str], None] = lambda _: None, **traits: Any
    ) -> None:
        self._errands = Errands("workbench-harm")
        self._judged = ""
        self._ratio: tuple[Any, Any] = (None, None)
        self._wants = wants
        super().__init__(session, **traits)

    def begin(self, session: Session) -> None:
        """Forget the figures of the Session before."""
        for name in ("accuracy", "size", "latency"):
            self.set_trait(name, None)
        self.baseline, self.progress, self.harm, self.problem, self._judged = {}, {}, {}, "", ""
        self.measuring = False
        splits = session.data.splits
        total = {name: len(split) for name, split in splits.items()}
        self.context = {"total": total, "session": marks_of(session).name}
        self.devices, self.device = _devices(), session.device

    def draw(self, snapshot: Snapshot) -> None:
        """Set the figures that changed; one not known yet for this Recipe keeps its last, true, state."""
        move = self.marks.move_of(snapshot.generation) if self.session is not None else 0
        with self.publishing():
            self.accuracy = figures.accuracy_figure(snapshot, move) or self.accuracy
            self.size = figures.size_figure(snapshot, move) or self.size
            self.latency = figures.latency_figure(snapshot, self._elsewhere(snapshot)) or self.latency
            self.baseline = figures.baseline_figures(snapshot)
            self.progress = figures.progress(snapshot)
        if snapshot.settled and not snapshot.error and snapshot.recipe_hash != self._judged:
            self._judged = snapshot.recipe_hash
            self._judge(snapshot.recipe)

    def _elsewhere(self, snapshot: Snapshot) -> Any:
        """Return ratio and energy on the described device; found once for each recipe and device."""
        session = self.session
        if session is None or session.device == HERE or snapshot.latency is None:
            return None
        key = (session.device, snapshot.recipe_hash)
        if self._ratio[0] != key:
            self._ratio = (key, session.on_device(snapshot.recipe))
        return self._ratio[1]

    def choose_device(self, name: str) -> None:
        """Predict latency for this machine or a described device; a broken device file is told on the page."""
        session = self.session
        if session is None:
            return
        try:
            session.use_device(name)
        except Exception as error:  # whatever went wrong belongs on the page, as a sentence
            self.problem = sentence(error)
            return
        with self.publishing():
            self.device, self.problem = name, ""

    def plot(self, area: FigureBase) -> None:
        """Draw the three figures beside one another."""
        from .figure import plot_scores

        if self.session is not None:
            plot_scores(area, self.session.snapshot)

    def measure(self) -> threading.Thread | None:
        """Measure the present Recipe's latency on a thread of its own; the Snapshot brings the figure."""
        with self.publishing():
            session = self.session
            if self.measuring or session is None:
                return None
            self.measuring, self.problem = True, ""
        thread = threading.Thread(target=self._measure, args=(session,), daemon=True, name="workbench-measure")
        thread.start()
        return thread

    def _measure(self, session: Session) -> None:
        problem = ""
        try:
            session.measure_latency()
        except Exception as error:  # whatever went wrong belongs on the page, as a sentence
            problem = str(error) or type(error).__name__
        with self.publishing():
            if session is self.session:  # another one is shown by now: this is nothing of it
                self.measuring, self.problem = False, problem

    def _judge(self, recipe: Recipe) -> None:
        """Find on another thread which classes ``recipe`` hurts, and show it if it is still the present one."""
        session = self.session
        if session is None:
            return

        def work() -> None:
            threading.Event().wait(REST)
            if session.recipe.hash != recipe.hash:  # a hand is still on the slider
                return
            try:
                report = judge_classes(session, recipe)
            except WorkbenchError:  # no labels, or a history that lost the answers: there is nothing to judge by
                return
            with self.publishing():
                if session is self.session and session.recipe.hash == recipe.hash:
                    self.harm = figures.harm_figure(recipe, report)

        if recipe:
            self._errands.run("harm", work)
        else:
            with self.publishing():
                self.harm = {"recipe": recipe.hash}

    def receive(self, content: dict[str, Any], buffers: list[Any]) -> None:
        """Measure when the button is pressed, take the chosen device, open the tab that tells more of the classes."""
        if content.get("do") == "measure":
            self.measure()
        elif content.get("do") == "device":
            self.choose_device(str(content.get("name")))
        elif content.get("do") == "behaviour":
            self._wants("behaviour")


def _devices() -> list[dict[str, str]]:
    """Return name and title of every device."""
    from workbench.measure.devices.target import device_titles

    return [{"name": name, "title": title} for name, title in {HERE: "this machine", **device_titles()}.items()]
