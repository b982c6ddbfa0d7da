"""Every described device: the present setting's time ÷ the dense model's first, milliseconds second, and why.

Predictions need no image to be run; they are made on a thread of their own once a setting has settled. The person's
own measurements on a device (anchors) correct what is predicted for it, for as long as the Session is open.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import traitlets

from workbench.errors import WorkbenchError
from workbench.recipe import Recipe

from ..base import plots
from ..base.errands import Errands
from ..base.view import View, script, style
from ..base.words import in_words
from .figure import draw_devices

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

    from workbench.deploy.outlook import Outlook
    from workbench.measure.devices import Observation
    from workbench.session import Session
    from workbench.snapshot import Snapshot

#: Measurements of a person's own that are kept, and milliseconds that an image can take at most.
MOST, LONGEST_MS = 32, 1e7


class DevicesView(View):
    """``rows`` holds what each device would make of the setting ``shown``; ``anchors`` the person's measurements."""

    _esm = script("base/study.js", "devices/devices.js")
    _css = style("base/study.css", "devices/devices.css")
    patience = 0.2

    figure_size = (plots.DOUBLE, 2.6)

    rows: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    shown = traitlets.Unicode("").tag(sync=True)
    anchors: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    problem = traitlets.Unicode("").tag(sync=True)

    def __init__(self, session: Session | None = None, **traits: Any) -> None:
        self._errands = Errands("workbench-devices")
        self._measured: list[tuple[str, Observation]] = []
        super().__init__(session, **traits)

    def begin(self, session: Session) -> None:
        """Forget the model of the Session before, and what was measured of it."""
        self._measured = []
        self.rows, self.anchors, self.shown, self.problem = [], [], "", ""

    def draw(self, snapshot: Snapshot) -> None:
        """Predict anew once the setting has settled."""
        session = self.session
        if session is not None and snapshot.settled and not snapshot.error:
            self._errands.run("look", lambda: self._look(session, snapshot.recipe))

    def receive(self, content: dict[str, Any], buffers: list[Any]) -> None:
        """Take a measurement of the person's, or forget one."""
        session = self.session
        if session is None:
            return
        match content.get("do"):
            case "measured":
                self._errands.run("anchor", lambda: self._take(session, content))
            case "forget":
                place = int(content["anchor"])
                self._measured = [one for at, one in enumerate(self._measured) if at != place]
                with self.publishing():
                    self.anchors = [one for at, one in enumerate(self.anchors) if at != place]
                self.draw(session.snapshot)

    def plot(self, area: FigureBase) -> None:
        """Draw each device's ratio with its interval."""
        if not self.rows:
            raise WorkbenchError("There is nothing to draw yet: the setting has not settled.")
        draw_devices(area, list(self.rows), self.shown)

    def _take(self, session: Session, content: dict[str, Any]) -> None:
        from workbench.measure.devices import Observation, find_target

        problem = ""
        try:
            device, ms = find_target(str(content.get("device"))), float(content.get("ms") or math.nan)
            if not 0 < ms < LONGEST_MS:
                raise WorkbenchError("Write the milliseconds that an image took, such as 12.5.")
            recipe = Recipe() if content.get("what") == "dense" else session.recipe
            work, dtype = session.work(recipe)
            if len(self._measured) >= MOST:
                raise WorkbenchError(f"{MOST} measurements are kept: remove one first.")
            self._measured = [*self._measured, (device.name, Observation(work, dtype, ms))]
            told = {
                "device": device.name,
                "title": device.description.title,
                "what": in_words(recipe.to_data()),
                "ms": ms,
            }
            with self.publishing():
                self.anchors = [*self.anchors, told]
        except (WorkbenchError, ValueError) as error:
            problem = str(error) if isinstance(error, WorkbenchError) else "Write the milliseconds as a number."
        with self.publishing():
            self.problem = problem
        if not problem:
            self._look(session, session.recipe)

    def _look(self, session: Session, recipe: Recipe) -> None:
        from workbench.deploy.outlook import look_ahead
        from workbench.measure.devices import targets

        found: tuple[Outlook, ...] = ()
        problem = ""
        try:
            anchors: dict[str, list[Observation]] = {}
            for device, observation in self._measured:
                anchors.setdefault(device, []).append(observation)
            found = look_ahead(session.change(recipe), targets(), anchors)
        except WorkbenchError as error:  # a broken device file, a model that does not export
            problem = str(error)
        with self.publishing():
            if session is self.session and recipe == session.recipe:
                self.rows, self.shown = [_row(one) for one in found], in_words(recipe.to_data())
                self.problem = problem or self.problem


def _row(one: Outlook) -> dict[str, Any]:
    energy = one.energy
    return {
        "device": one.device, "title": one.title, "runtime": one.runtime, "reason": one.reason, "anchors": one.anchors,
        "caution": one.caution,
        "ratio": _short(one.ratio.ms, one.ratio.low, one.ratio.high), "ms": _short(one.ms.ms, one.ms.low, one.ms.high),
        "mj": energy and _short(energy.mj, energy.low, energy.high),
    }  # fmt: skip


def _short(*values: float) -> list[float]:
    return [float(f"{value:.4g}") for value in values]
