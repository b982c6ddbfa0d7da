"""How sensitive each layer is: a map and curves of a sweep in the background, drawn as it comes.

The sweep belongs to the Session (``workbench.analyze.studies``), so that it goes on while this view is
hidden and is still there for a view that is made later. The page gets it as four arrays, a number a cell,
at most a few times a second; nothing of it is sent while a slider moves, since the sweep stands still then.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import traitlets

from workbench.analyze.finding import Mode
from workbench.analyze.requests import Requests, requests_of
from workbench.analyze.studies import Studies, studies_of
from workbench.editing import dial_values, with_layer
from workbench.errors import WorkbenchError
from workbench.techniques import TECHNIQUES

from ..base import plots
from ..base.view import View, script, style
from .figure import draw_sensitivity
from .metrics import METRICS, about, figures_of, offered
from .tables import asked, course, pairs, ranking

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

    from workbench.analyze.sensitivity import Sensitivity
    from workbench.session import Session
    from workbench.snapshot import Snapshot

    from ..base.marks import Marks

#: Half-width at which a cell is settled, by the name the page has for it; None runs every image.
PRECISIONS: dict[str, float | None] = {"half a point": 0.005, "every image": None}
#: What a row compresses, by the name the page has for it.
MODES: dict[Mode, str] = {"only": "this layer alone", "others": "all but this layer"}
#: Seconds between two drawings of a running sweep.
PACE = 0.25
LABELS = {
    "prune": "Pruning ratio",
    "quantize": "Bit-width",
    "share": "Bits of a codebook",
    "factorize": "Size of the factors",
}


def _array() -> traitlets.Bytes:
    return traitlets.Bytes(b"").tag(sync=True, echo_update=False)


def dials() -> list[dict[str, Any]]:
    """Return what can be swept: each technique's dial and its levels."""
    return [
        {
            "name": name,
            "label": LABELS.get(name, f"{name}: {technique.dial.setting}"),
            "levels": list(technique.dial.levels),
            "percent": technique.dial.percent,
            "neutral": technique.dial.neutral,
            "unit": "" if technique.dial.percent else " bit" if technique.dial.setting == "bits" else "",
        }
        for name, technique in TECHNIQUES.items()
        if technique.dial
    ]


class SensitivityView(View):
    """A map (layers × levels) or curves of what each layer costs when it alone is compressed, or all but it.

    ``technique``, ``mode`` and ``metric`` (of ``METRICS``) are what is shown, ``form`` is
    ``map``, ``curves``, or one of the tables: ``ranking``, ``pairs``.
    """

    _esm = script("sensitivity/map.js", "sensitivity/curves.js", "sensitivity/tables.js", "sensitivity/sensitivity.js")
    _css = style("sensitivity/sensitivity.css")
    _dials: ClassVar[list[dict[str, Any]]] = dials()

    figure_size = (plots.DOUBLE, 3.6)

    dials: traitlets.List[dict[str, Any]] = traitlets.List(_dials).tag(sync=True)
    technique = traitlets.Unicode(_dials[0]["name"]).tag(sync=True)
    precision = traitlets.Enum(tuple(PRECISIONS), next(iter(PRECISIONS))).tag(sync=True, echo_update=False)
    metrics: traitlets.List[list[str]] = traitlets.List(offered(True)).tag(sync=True)
    metric = traitlets.Enum(tuple(METRICS), "drop").tag(sync=True)
    modes: traitlets.List[list[str]] = traitlets.List([list(mode) for mode in MODES.items()]).tag(sync=True)
    mode = traitlets.Enum(tuple(MODES), "only").tag(sync=True)
    form = traitlets.Enum(("map", "curves", "ranking", "pairs"), "map").tag(sync=True, echo_update=False)
    ranking = traitlets.Dict().tag(sync=True)
    pairs = traitlets.Dict().tag(sync=True)
    asked = traitlets.Dict().tag(sync=True)
    layers: traitlets.List[str] = traitlets.List().tag(sync=True)
    selected: traitlets.List[int] = traitlets.List().tag(sync=True)
    locked: traitlets.List[int] = traitlets.List().tag(sync=True)
    value = _array()  # float32 (layers, levels), the metric (of drop, the accuracy); NaN where unknown
    low = _array()
    high = _array()
    n = _array()  # uint32, images behind each
    untouched = _array()  # uint8, 1 where the setting leaves the model as it is
    present = _array()  # float32, each layer's setting now
    about = traitlets.Dict().tag(sync=True)
    progress = traitlets.Dict().tag(sync=True)
    problem = traitlets.Unicode("").tag(sync=True)

    def __init__(self, session: Session | None = None, **traits: Any) -> None:
        self._names: tuple[str, ...] = ()
        self._drawn = -1
        self._shown: Sensitivity | None = None
        self._told = 0.0
        self._unsubscribe: tuple[Callable[[], None], ...] = ()
        super().__init__(session, **traits)
        self.observe(self._on_seen, "visible")
        self.observe(self._on_shown, ["technique", "mode", "metric", "form"])

    def attach(self, session: Session) -> None:
        """Show ``session`` from now on."""
        super().attach(session)
        self._unsubscribe = (
            studies_of(session).subscribe(self._on_studies(session)),
            requests_of(session).subscribe(self._on_requests(session)),
        )

    def detach(self) -> None:
        """Stop drawing; the sweep goes on."""
        for end in self._unsubscribe:
            end()
        super().detach()

    def begin(self, session: Session) -> None:
        """List the layers, and show what was found before."""
        self._names = tuple(layer.name for layer in session.layers)
        self._drawn, self._shown = -1, None
        self.layers, self.problem = list(self._names), ""
        self.metrics = offered(session.split.labelled)
        if self.metric not in dict(self.metrics):
            self.metric = "drop"
        studies = studies_of(session)
        if session.is_written:
            studies.recall(session)
        else:  # the history's key is still to come, and a page that opens does not wait for it
            threading.Thread(target=self._recall, args=(session,), name="workbench-recall", daemon=True).start()
        self._show(studies)

    def _recall(self, session: Session) -> None:
        """Show what the history keeps of ``session``."""
        studies = studies_of(session)
        studies.recall(session)
        with self.publishing():
            if self.session is session:
                self._show(studies)

    def mark(self, marks: Marks) -> None:
        """Show which layers are selected and locked."""
        places = {name: place for place, name in enumerate(self._names)}
        self.selected = [places[name] for name in marks.selected if name in places]
        self.locked = sorted(places[name] for name in marks.locked if name in places)

    def draw(self, snapshot: Snapshot) -> None:
        """Show each layer's present setting, and what the sweep found while nobody looked."""
        with self.publishing():
            if snapshot.generation != self._drawn:
                self._drawn = snapshot.generation
                values = dial_values(snapshot.recipe, self.technique, self._names)
                self.present = np.array([values[name].value for name in self._names], np.float32).tobytes()
            if self.session is not None:
                self._show(studies_of(self.session))

    def start(self) -> None:
        """Start a sweep of the technique shown."""
        if self.session is None:
            return
        with self.publishing():
            self.problem = ""
        try:
            studies_of(self.session).start(self.session, self.technique, PRECISIONS[self.precision], self.mode)
        except WorkbenchError as refused:
            with self.publishing():
                self.problem = str(refused)

    def receive(self, content: dict[str, Any], buffers: list[Any]) -> None:
        """Do what the page asked for."""
        if self.session is None:
            return
        match content.get("do"):
            case "start":
                self.start()
            case "cancel":
                studies_of(self.session).cancel()
            case "show":
                self._choose(content)
            case "select":
                self.marks.select(*(self._names[place] for place in content["layers"] if place < len(self._names)))
            case "compare" | "pair" as wish:
                self._ask(self._compare if wish == "compare" else self._pair)
            case "leave":
                requests_of(self.session).cancel()
            case "set":
                self._set(int(content["layer"]), float(content["level"]))

    def _choose(self, content: dict[str, Any]) -> None:
        """Show another technique, mode or metric; what is unknown is left alone."""
        known = {"technique": {dial["name"] for dial in self.dials}, "mode": MODES, "metric": METRICS}
        for name in known.keys() & content.keys():
            if content[name] in known[name]:
                self.set_trait(name, content[name])

    def _ask(self, work: Callable[[Session, Sensitivity], None]) -> None:
        """Start work on request, which needs the sweep shown; what is refused is said."""
        session = self.session
        found = studies_of(session).of(self.technique, self.mode) if session is not None else None
        problem = "" if found else "Start a sweep first."
        if session is not None and found is not None:
            try:
                work(session, found)
            except WorkbenchError as refused:
                problem = str(refused)
        with self.publishing():
            self.problem = problem

    def _compare(self, session: Session, found: Sensitivity) -> None:
        requests_of(session).compare(session, found)

    def _pair(self, session: Session, found: Sensitivity) -> None:
        level = found.levels[len(found.levels) // 2]
        requests_of(session).pair(session, self.marks.selected, found.question, level, PRECISIONS[self.precision])

    def plot(self, area: FigureBase) -> None:
        """Draw the map and the curves of the technique shown."""
        found = studies_of(self.session).of(self.technique, self.mode) if self.session is not None else None
        if found is None:
            raise WorkbenchError("There is nothing to draw yet: start a sweep first.")
        dial = next(dial for dial in self.dials if dial["name"] == self.technique)
        draw_sensitivity(area, found, dial, self.marks.selected)

    def _set(self, place: int, level: float) -> None:
        name = self._names[place]
        problem = ""
        if name in self.marks.locked:
            problem = f"{name} is locked, so it keeps its setting. Unlock it in the layer table to change it."
        else:
            try:
                self.change(lambda recipe: with_layer(recipe, self.technique, [name], level))
            except WorkbenchError as refused:
                problem = str(refused)
        self.marks.select(name)
        with self.publishing():
            self.problem = problem

    def _on_seen(self, change: Any) -> None:
        """Look at what the history keeps by now: the view may have been made long before a page showed it."""
        session = self.session
        if change["new"] and session is not None:
            self._recall(session)

    def _on_shown(self, _: Any) -> None:
        self._drawn, self._shown = -1, None
        if self.session is not None:
            self.draw(self.session.snapshot)

    def _on_studies(self, session: Session) -> Callable[[Studies], None]:
        def follow(studies: Studies) -> None:
            if self.session is not session:
                return
            now = time.monotonic()
            if studies.running and now - self._told < PACE:
                return
            self._told = now
            if self.visible:
                with self.publishing():
                    self._show(studies)

        return follow

    def _on_requests(self, session: Session) -> Callable[[Requests], None]:
        def follow(requests: Requests) -> None:
            if self.session is not session:
                return
            if not self.visible:
                self._shown = None  # drawn whole once it is looked at again
                return
            with self.publishing():
                self._show_tables(studies_of(session).of(self.technique, self.mode))

        return follow

    def _show_tables(self, found: Sensitivity | None) -> None:
        """Set the traits of the table that is looked at."""
        if self.session is None or self.form not in ("ranking", "pairs"):
            return
        requests = requests_of(self.session)
        if self.form == "ranking":
            self.ranking = ranking(found, requests.proxies(self.session, found.question) if found else {})
        else:
            self.pairs = pairs(requests.pairs, self._names)
        self.asked = asked(requests)

    def _show(self, studies: Studies) -> None:
        """Set the traits that show the sweep."""
        found = studies.of(self.technique, self.mode)
        if found is not self._shown or found is None:
            self._shown = found
            figures = figures_of(found, self.metric) if found else ()
            for name, values in zip(("value", "low", "high"), figures or (None,) * 3, strict=True):
                self.set_trait(name, values.astype(np.float32).tobytes() if values is not None else b"")
            self.n = found.n.astype(np.uint32).tobytes() if found else b""
            self.untouched = found.untouched.astype(np.uint8).tobytes() if found and found.untouched.any() else b""
            self.about = about(found, self.metric)
            self._show_tables(found)
        self.progress = course(studies)
