"""Every setting tried, by any two of accuracy, size and latency, with the Pareto front.

The page is sent all settings once, when someone first looks, and then only what is new: ``added`` holds
the last few changes and says from which entry of the log they are. A page that missed some (it was
reloaded) sees the gap and asks for all.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Iterable
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from workbench.errors import WorkbenchError
from workbench.recipe import Recipe

from ..base import plots
from ..base.errands import Errands
from ..base.view import View, script, style
from ..base.words import in_words
from .comparing import compare_trials
from .figure import draw_tradeoff
from .keeping import Keeper
from .trials import Trial, Trials

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

    from workbench.session import Session
    from workbench.snapshot import Snapshot

METRICS = ("accuracy", "size", "latency", "runtime", "agreement", "loss")
KINDS = ("predicted", "sampled", "exact")
#: What a row of the packed figures holds; float32 each, NaN where it is not known.
COLUMNS = (
    "place", "score", "low", "high", "n", "kind", "bytes", "ms", "ms_low", "ms_high", "measured_ms",
    "minutes", "mine", "parent", "runtime_bytes", "agreement", "loss", "kept", "starred", "deleted",
)  # fmt: skip
#: What the plot can be saved as from the page.
PLOTS = ("png", "svg", "pdf")
#: Seconds after which a history is read though nobody looks yet, and settings read at once.
AHEAD_S, AT_ONCE = 0.5, 250
#: How many changes ``added`` repeats, so that a page that missed a message need not ask.
REPEATED = 16


class TradeoffView(View):
    """A scatter drawn in the browser; a click on a setting goes back to it. Settings are named, starred, deleted
    (and restored), compared side by side, and taken away as CSV; the plot as PNG, SVG or PDF.

    ``x`` and ``y`` name the two figures, ``scope`` is ``all``, ``session`` or ``starred``, ``log`` draws size and
    latency on a logarithmic scale, ``near`` leaves out accuracies far below the dense model's.
    """

    _esm = script(
        "base/files.js", "tradeoff/points.js", "tradeoff/plot.js", "tradeoff/comparing.js", "tradeoff/list.js",
        "tradeoff/tradeoff.js",
    )  # fmt: skip
    _css = style("tradeoff/tradeoff.css")

    figure_size = (plots.SINGLE, 2.8)

    x = traitlets.Enum(METRICS, "size").tag(sync=True)
    y = traitlets.Enum(METRICS, "accuracy").tag(sync=True)
    labelled = traitlets.Bool(True).tag(sync=True)
    log = traitlets.Bool(True).tag(sync=True)
    near = traitlets.Bool(False).tag(sync=True)
    scope = traitlets.Enum(("all", "session", "starred"), "all").tag(sync=True)

    edition = traitlets.Int(0).tag(sync=True)
    epoch = traitlets.Float(0.0).tag(sync=True)
    points = traitlets.Bytes(b"").tag(sync=True, echo_update=False)
    words = traitlets.Bytes(b"").tag(sync=True, echo_update=False)
    upto = traitlets.Int(0).tag(sync=True)
    added = traitlets.Bytes(b"").tag(sync=True, echo_update=False)
    added_words = traitlets.Bytes(b"").tag(sync=True, echo_update=False)
    added_from = traitlets.Int(0).tag(sync=True)
    added_upto = traitlets.Int(0).tag(sync=True)
    dense = traitlets.Bytes(b"").tag(sync=True, echo_update=False)
    present = traitlets.Bytes(b"").tag(sync=True, echo_update=False)
    present_words = traitlets.Unicode("").tag(sync=True)
    comparison = traitlets.Dict().tag(sync=True)
    deleted: traitlets.List[int] = traitlets.List().tag(sync=True)
    problem = traitlets.Unicode("").tag(sync=True)
    notice = traitlets.Unicode("").tag(sync=True)

    def __init__(self, session: Session | None = None, **traits: Any) -> None:
        self._trials = Trials("")
        self._told = False
        self._packed: tuple[int, bytes, bytes] | None = None
        self._unsubscribe: Any = None
        self._errands, self._readings = Errands("workbench-tradeoff"), Errands("workbench-history")
        super().__init__(session, **traits)

    def begin(self, session: Session) -> None:
        """Forget the settings of the Session before; listen to this one also while nobody looks."""
        self._trials = trials = Trials(session.place.split)
        self._keeper = Keeper(session, trials)
        self._told, self._packed = False, None
        self.labelled = session.place.labelled
        self.edition += 1
        self.epoch = time.time()
        self.points = self.words = self.added = self.added_words = self.dense = self.present = b""
        self.upto = self.added_from = self.added_upto = 0
        self.present_words = self.problem = ""
        self.notice = " ".join(session.history_notes)  # damaged, read-only, of a newer version
        self.comparison, self.deleted = {}, []
        self._unsubscribe = session.subscribe(trials.note)
        self._readings.run("read", lambda: self._read_ahead(session, trials))

    def detach(self) -> None:
        """Stop drawing and listening."""
        super().detach()
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None

    def draw(self, snapshot: Snapshot) -> None:
        """Show the present setting, and the settings that joined."""
        session, trials = self.session, self._trials
        if session is None:
            return
        trials.note(snapshot)
        if snapshot.settled or not self._told:
            trials.add_records(session.records(after=trials.last_record))
        with self.publishing():
            if trials is not self._trials:
                return
            self._tell(everything=not self._told)
            self.dense = _pack([_baseline_row(snapshot)])
            self.present = _pack([_present_row(snapshot, trials, self.epoch)])
            self.present_words = in_words(snapshot.recipe.to_data())

    def receive(self, content: dict[str, Any], buffers: list[Any]) -> None:
        """Go back to a setting; undo and redo; send everything to a page that missed something."""
        wish, session = content.get("do"), self.session
        if session is None:
            return
        if wish == "all":
            with self.publishing():
                self._tell(everything=True)
        elif wish == "go" and content.get("edition") == self.edition:
            self._go(int(content["place"]))
        elif wish == "undo" and session.can_undo:
            session.undo()
        elif wish == "redo" and session.can_redo:
            session.redo()
        elif content.get("edition") == self.edition:
            self._errands.run(str(wish), lambda: self._keep(content))

    def plot(self, area: FigureBase) -> None:
        """Draw the settings the page shows, by the two figures it shows."""
        session = self.session
        if session is None:
            raise WorkbenchError("There is nothing to draw yet: no model is loaded.")
        self._trials.note(session.snapshot)
        self._trials.add_records(session.records(after=self._trials.last_record))
        everything = [trial for trial in self._trials.all if not trial.deleted]
        trials = [trial for trial in everything if trial.is_within(self.scope)]
        draw_tradeoff(area.subplots(), trials, session.snapshot, x=self.x, y=self.y, log=self.log)

    def _read_ahead(self, session: Session, trials: Trials) -> None:
        """Read a long history before anyone looks, a little at a time, once the page's own figures are there."""
        threading.Event().wait(AHEAD_S)
        try:
            records = session.records(after=trials.last_record)
        except WorkbenchError:  # read again, and told, when someone looks
            return
        for first in range(0, len(records), AT_ONCE):
            if trials is not self._trials:
                return
            trials.add_records(records[first : first + AT_ONCE])
            for record in records[first : first + AT_ONCE]:
                _ = trials.words_of(record.recipe_hash)
        packed = self._pack_all(trials)
        with self._lock:
            if trials is self._trials:
                self._packed = packed

    def _keep(self, content: dict[str, Any]) -> None:
        """Change, compare or send what the page chose; what is wrong with it is said on the page."""
        problem = ""
        places = [int(place) for place in content.get("places", ())]
        try:
            match content["do"]:
                case "name":
                    self._keeper.name(places[0], str(content["name"]))
                case "star":
                    self._keeper.star(places, bool(content["starred"]))
                case "delete":
                    gone = self._keeper.delete(places)
                    with self.publishing():
                        self.deleted = list(gone)
                case "restore":
                    self._keeper.restore(self.deleted)
                    with self.publishing():
                        self.deleted = []
                case "compare":
                    self._compare(places)
                case "csv":
                    self._send_file("settings.csv", self._keeper.csv(places))
                case "plot" if content["format"] in PLOTS:
                    self._send_file(f"tradeoff.{content['format']}", self._drawn(content["format"]))
        except WorkbenchError as error:
            problem = str(error)
        with self.publishing():
            self._tell(everything=False)
            self.problem = problem

    def _compare(self, places: list[int]) -> None:
        assert self.session is not None
        trials = self._trials.all
        chosen = [trials[place] for place in places if 0 <= place < len(trials)]
        found = {"places": places, **compare_trials(self.session, chosen)} if places else {}
        with self.publishing():
            self.comparison = found

    def _drawn(self, suffix: str) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            return self.save(Path(folder) / f"tradeoff.{suffix}").read_bytes()

    def _send_file(self, name: str, data: bytes) -> None:
        with self._lock:
            self.send({"do": "file", "name": name}, [data])

    def _go(self, place: int) -> None:
        trials, problem = self._trials.all, ""
        if not 0 <= place < len(trials):
            return
        try:
            recipe = Recipe.parse(json.loads(trials[place].recipe))
            self.change(lambda _: recipe, whole=True)
        except WorkbenchError as error:
            problem = str(error)
        with self.publishing():
            self.problem = problem

    def _tell(self, everything: bool) -> None:
        upto, _ = self._trials.changes(0)
        if everything:
            self.upto, self.points, self.words = self._packed or self._pack_all(self._trials)
            self.added_from = self.added_upto = self.upto
            self.added = self.added_words = b""
            self._told, self._packed = True, None
        if upto > self.added_upto:
            start = max(self.upto, min(self.added_upto, upto - REPEATED))
            all_trials = self._trials.all
            _, places = self._trials.changes(start)
            trials = tuple(all_trials[place] for place in places)
            self.added, self.added_words = self._rows(trials), _lines(trials)
            self.added_from, self.added_upto = start, upto

    def _pack_all(self, trials: Trials) -> tuple[int, bytes, bytes]:
        """Return how much of the log all settings hold, their figures and their words."""
        upto, _ = trials.changes(0)
        every = trials.all
        return upto, _pack([_row(trial, trials, self.epoch) for trial in every]), _lines(every)

    def _rows(self, trials: Iterable[Trial]) -> bytes:
        return _pack([_row(trial, self._trials, self.epoch) for trial in trials])


def _row(trial: Trial, trials: Trials, epoch: float) -> list[float]:
    latency, score = trial.latency, trial.score
    return [
        trials.place(trial.recipe_hash), score.value, score.low, score.high, score.n,
        KINDS.index(score.kind), trial.bytes,
        *((latency.ms, latency.low, latency.high) if latency else (nan, nan, nan)),
        nan if trial.measured_ms is None else trial.measured_ms,
        (trial.when - epoch) / 60, trial.mine, trials.place(trial.parent),
        *(nan if figure is None else figure for figure in (trial.runtime_bytes, trial.agreement, trial.loss)),
        trial.identity is not None, trial.starred, trial.deleted,
    ]  # fmt: skip


def _present_row(snapshot: Snapshot, trials: Trials, epoch: float) -> list[float]:
    score = snapshot.score or snapshot.predicted
    latency, measured = snapshot.latency, snapshot.measured_latency
    return [
        trials.place(snapshot.recipe_hash),
        *((score.value, score.low, score.high, score.n, KINDS.index(score.kind))
          if score else (nan, nan, nan, 0, 0)),
        snapshot.size.bytes if snapshot.size else nan,
        *((latency.ms, latency.low, latency.high) if latency else (nan, nan, nan)),
        measured.ms if measured else nan, nan, True, -1,
        (snapshot.size.runtime_bytes or nan) if snapshot.size else nan,
        snapshot.agreement.value if snapshot.agreement else nan, snapshot.loss.value if snapshot.loss else nan,
        True, False, False,
    ]  # fmt: skip


def _baseline_row(snapshot: Snapshot) -> list[float]:
    baseline = snapshot.baseline
    score, size, latency = baseline.score, baseline.size, baseline.latency
    return [
        -1,
        *((score.value, score.low, score.high, score.n) if score else (nan, nan, nan, 0)),
        KINDS.index("exact"),
        size.bytes if size else nan,
        *((latency.ms, latency.low, latency.high) if latency else (nan, nan, nan)),
        nan, nan, True, -1,
        (size.runtime_bytes or nan) if size else nan, 1.0, baseline.loss.value if baseline.loss else nan,
        True, False, False,
    ]  # fmt: skip


def _pack(rows: list[list[float]]) -> bytes:
    return np.asarray(rows, np.float32).reshape(-1, len(COLUMNS)).tobytes()


def _lines(trials: Iterable[Trial]) -> bytes:
    """Return each setting's words in a line; a name goes before them, with a tab between."""
    words = ((f"{trial.name}\t" if trial.name else "") + trial.words.replace("\n", " ") for trial in trials)
    return "\n".join(words).encode()
