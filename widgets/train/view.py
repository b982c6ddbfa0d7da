"""Winning accuracy back: a method with its settings, the recovery ladder, the jobs, and their curves.

Jobs belong to the Session (``workbench.train.jobs.queue``), so that they go on while this view is hidden and are
still there for a view that is made later. What came out is applied to the recipe, and so reaches the history.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import traitlets

from workbench.errors import WorkbenchError
from workbench.recipe import Recipe, Step
from workbench.techniques import TECHNIQUES, Cost
from workbench.train.jobs.queue import Entry, Trainings, trainings_of

from ..base import plots
from ..base.view import View, script, style
from ..base.words import in_words, technique_title
from ..controls.fields import fields_of
from .figure import draw_curves, interval

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

    from workbench.session import Session
    from workbench.snapshot import Snapshot

    from ..base.marks import Marks

#: Seconds between two drawings of running jobs.
PACE = 0.25


def methods() -> list[dict[str, Any]]:
    """Return every trained technique with its settings as fields."""
    return [
        {
            "name": name, "title": technique_title(name), "summary": technique.summary,
            "source": technique.source, "url": technique.url,
            "fields": fields_of(technique), "again": getattr(technique.settings, "again", ()),
        }
        for name, technique in TECHNIQUES.items()
        if technique.cost(technique.settings()) is Cost.TRAINED
    ]  # fmt: skip


class TrainView(View):
    """The Train tab.

    ``chosen`` is the method shown and its settings, ``shown`` are the jobs whose curves are drawn.
    """

    _esm = script("controls/field.js", "train/curves.js", "train/jobs.js", "train/train.js")
    _css = style("train/train.css")
    of_page = View.of_page | {"within"}
    patience = 0.1

    figure_size = (plots.DOUBLE, 2.8)
    _methods: ClassVar[list[dict[str, Any]]] = methods()

    methods: traitlets.List[dict[str, Any]] = traitlets.List(_methods).tag(sync=True)
    chosen = traitlets.Dict().tag(sync=True)
    pace = traitlets.Dict().tag(sync=True)
    images = traitlets.Int(0).tag(sync=True)
    validation = traitlets.Int(0).tag(sync=True)
    ladder: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    within = traitlets.Float(0.5).tag(sync=True, echo_update=False)
    jobs: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    curves = traitlets.Dict().tag(sync=True)
    shown: traitlets.List[int] = traitlets.List().tag(sync=True)
    recipe = traitlets.Unicode("").tag(sync=True)
    waiting = traitlets.Unicode("").tag(sync=True)
    problem = traitlets.Unicode("").tag(sync=True)

    def __init__(self, session: Session | None = None, **traits: Any) -> None:
        self._told = 0.0
        self._drawn = -1
        self._points: dict[int, int] = {}
        self._unsubscribe: Callable[[], None] = lambda: None
        super().__init__(session, **traits)

    def attach(self, session: Session) -> None:
        """Show ``session`` from now on."""
        super().attach(session)
        self._unsubscribe()
        self._unsubscribe = trainings_of(session).subscribe(self._on_trainings(session))

    def detach(self) -> None:
        """Stop drawing; the jobs go on."""
        self._unsubscribe()
        super().detach()

    def begin(self, session: Session) -> None:
        """Say how many images there are, and show the jobs there have been."""
        splits = session.data.splits
        self.images = len(splits["train"]) if "train" in splits else 0
        self.validation = len(splits["validation"]) if "validation" in splits else 0
        self.problem, self._drawn, self._points = "", -1, {}
        if not self.chosen:
            self.chosen = {"method": "finetune", "settings": {}}
        self._show(trainings_of(session))

    def mark(self, marks: Marks) -> None:
        """Offer to train again what a moved slider took off."""
        untrained = marks.untrained
        if untrained:
            last = untrained[-1]
            self.chosen = {"method": last.technique, "settings": last.settings.model_dump(exclude_defaults=True)}
        self._tell_waiting()

    def draw(self, snapshot: Snapshot) -> None:
        """Follow the recipe: the ladder's figures are those of the present one."""
        if snapshot.generation == self._drawn and not snapshot.error:
            return
        self._drawn = snapshot.generation
        with self.publishing():
            self.recipe = in_words(snapshot.recipe.to_data())
            self._tell_waiting()
            if self.session is not None:
                self._show(trainings_of(self.session))

    def receive(self, content: dict[str, Any], buffers: list[Any]) -> None:
        """Do what the page asked for."""
        if self.session is None:
            return
        with self.publishing():
            self.problem = ""
        try:
            self._do(self.session, trainings_of(self.session), content)
        except (WorkbenchError, ValueError) as refused:
            with self.publishing():
                self.problem = str(refused)

    def plot(self, area: FigureBase) -> None:
        """Draw the curves that are shown."""
        entries = trainings_of(self.session).entries if self.session is not None else ()
        drawn = [entry for entry in entries if entry.id in self.shown and entry.curve]
        if not drawn:
            raise WorkbenchError("There is nothing to draw yet: start a training first.")
        draw_curves(area, drawn, self.validation)

    def _do(self, session: Session, trainings: Trainings, content: dict[str, Any]) -> None:
        what, base = content.get("do"), session.recipe
        match what:
            case "start":
                method, settings = str(content["method"]), dict(content.get("settings") or {})
                self.chosen = {"method": method, "settings": settings}
                recipe = Recipe.parse([*base.to_data(), {method: settings}])
                self._reveal(trainings.train(recipe, base, _title(recipe.steps[-1])))
            case "train":
                self._reveal(trainings.train(base, base, _title(base.steps[-1])))
            case "climb":
                within = float(content["within"])
                title = f"Climb to within {within:g} points"
                self._reveal(trainings.climb(base, within, trainings.rungs(), title))
            case "rung":
                rung = next(rung for rung in trainings.rungs() if rung.name == content["rung"])
                self._reveal(trainings.climb(base, None, (rung,), rung.title))
            case "pause" | "resume" | "cancel" | "remove" | "apply":
                getattr(trainings, what)(int(content["job"]))
            case "show":
                ids = {entry.id for entry in trainings.entries}
                self.shown = [int(job) for job in content["jobs"] if int(job) in ids]

    def _reveal(self, entry: Entry) -> None:
        with self.publishing():
            self.shown = [*self.shown, entry.id]
            if self.session is not None:
                self._show(trainings_of(self.session))

    def _tell_waiting(self) -> None:
        """Say which trained steps of the recipe have not been trained, or were taken off by a moved slider."""
        session = self.session
        if session is None:
            return
        untrained = self.marks.untrained
        if untrained:
            names = " and ".join(_title(step) for step in untrained)
            self.waiting = f"Taken off, since the recipe before it was changed: {names}. Start trains it again."
        else:
            error = session.snapshot.error or ""
            self.waiting = error if "has not been trained" in error else ""

    def _on_trainings(self, session: Session) -> Callable[[Trainings], None]:
        def follow(trainings: Trainings) -> None:
            if self.session is not session:
                return
            now = time.monotonic()
            if now - self._told < PACE and any(entry.state == "running" for entry in trainings.entries):
                return
            self._told = now
            if not self.visible:
                self._drawn = -1  # drawn whole once it is looked at again
                return
            with self.publishing():
                self._show(trainings)

        return follow

    def _show(self, trainings: Trainings) -> None:
        """Set the traits that show jobs, curves and the ladder."""
        entries = trainings.entries
        self.jobs = [_job(entry) for entry in reversed(entries)]
        points = {entry.id: len(entry.curve) for entry in entries}
        if points != self._points:
            self._points = points
            self.curves = {str(entry.id): self._curve(entry) for entry in entries if entry.curve}
        self.shown = [number for number in self.shown if number in points]
        self.pace = dict(trainings.pace)
        assert self.session is not None
        tried = trainings.tried(self.session.recipe)
        present = {step.technique for step in self.session.recipe.steps}
        self.ladder = [
            {
                "name": rung.name, "title": rung.title, "help": rung.help,
                "in": any(name in present for step in rung.steps for name in step),
                **({} if (one := tried.get(rung.name)) is None else
                   {"points": one.points, "seconds": one.seconds, "rate": one.per_second, "note": one.note}),
            }
            for rung in trainings.rungs()
        ]  # fmt: skip

    def _curve(self, entry: Entry) -> dict[str, Any]:
        n = self.validation
        points = [[point.epoch, point.accuracy, *interval(point.accuracy, n), point.loss] for point in entry.curve]
        before = [] if entry.before is None else [[0, entry.before, *interval(entry.before, n), None]]
        return {"points": [*before, *points]}


def _job(entry: Entry) -> dict[str, Any]:
    return {
        "id": entry.id, "title": entry.title, "base": in_words(entry.base.to_data()), "state": entry.state,
        "doing": entry.doing, "share": round(entry.share, 4), "seconds": round(entry.seconds, 1),
        "left": None if entry.left is None else round(entry.left, 1), "before": entry.before, "after": entry.after,
        "applied": entry.applied, "error": entry.error, "note": entry.note,
    }  # fmt: skip


def _title(step: Step) -> str:
    """Return a trained step in a few words."""
    epochs = getattr(step.settings, "epochs", 0)
    return f"{technique_title(step.technique)}, {epochs} {'epoch' if epochs == 1 else 'epochs'}"
