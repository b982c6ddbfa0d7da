"""Find the best: a budget and what may be used, and the recipes that keep it, side by side; and the whole front.

The search belongs to the Session (``workbench.search.searches``), so that it goes on while this view is hidden. What
is sent is a few hundred bytes, at most a few times a second while it runs, and nothing while a slider moves.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import traitlets

from workbench.errors import WorkbenchError
from workbench.search.budget import Budget
from workbench.search.methods import APART, METHODS, USUAL
from workbench.search.searches import Fronts, Searches, fronts_of, searches_of

from ..base import plots
from ..base.view import View, script, style
from ..base.words import in_words
from .figure import draw_answers, draw_front

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

    from workbench.search.allocation import Allocation, Answer
    from workbench.search.front import FrontPoint
    from workbench.session import Session
    from workbench.snapshot import Snapshot

#: Seconds between two drawings of a running search.
PACE = 0.25
#: Recipes that a front is evolved over.
TRIALS = 96
#: What the page calls each kind of budget, what its number is multiplied by, and the unit it is typed in.
KINDS: dict[str, tuple[str, float, str]] = {
    "bytes": ("Packed size", 1e3, "kB"),
    "runtime_bytes": ("Runtime's file", 1e3, "kB"),
    "ms": ("Latency", 1.0, "ms"),
    "macs": ("MACs", 1e6, "M"),
    "drop": ("Accuracy lost", 0.01, "points"),
}
#: What is counted where that is not what the budget limits.
COUNTED = {"drop": "bytes"}
TECHNIQUES = {
    "quantize": "fewer bits",
    "prune": "prune weights",
    "channels": "remove channels",
    "factorize": "factorize",
    "share": "codebooks",
}
TITLES = {"exact": "Best found", "greedy": "Greedy", "uniform": "Same everywhere"}
REPAIRS = {"recalibrate": "BatchNorm recalibrated", "correct_bias": "biases corrected", "gptq": "rounded by GPTQ"}
STAGES = {
    "open": "measuring the dense model",
    "costs": "encoding each layer's options",
    "first": "a first look at each option",
    "sweep": "measuring each option",
    "measure": "measuring whole recipes",
    "again": "searching again with what was measured",
    "repair": "trying repairs without training",
    "report": "measuring the best on the test split",
}


def kinds() -> list[dict[str, Any]]:
    """Return the budgets that can be asked for, with the techniques that lower them and those that are usual."""
    return [
        {
            "name": name,
            "label": label,
            "unit": unit,
            "usual": list(USUAL[name]),
            "able": [method.name for method in METHODS.values() if COUNTED.get(name, name) in method.lowers],
        }
        for name, (label, _, unit) in KINDS.items()
    ]


class AllocationView(View):
    """Asks for a budget, runs the search, and shows the answers with one click to apply each.

    Below them is the front of accuracy, size and latency, evolved on request; a point of it is applied likewise.
    """

    _esm = script("allocation/front.js", "allocation/allocation.js")
    _css = style("allocation/allocation.css")

    figure_size = (plots.DOUBLE, 2.4)

    choices = traitlets.Dict({"kinds": kinds(), "techniques": TECHNIQUES, "apart": [*map(list, APART)]}).tag(sync=True)
    dense = traitlets.Dict().tag(sync=True)
    answers: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    about = traitlets.Dict().tag(sync=True)
    progress = traitlets.Dict().tag(sync=True)
    applied = traitlets.Unicode("").tag(sync=True)
    locked = traitlets.Int(0).tag(sync=True)
    problem = traitlets.Unicode("").tag(sync=True)
    front: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    evolving = traitlets.Dict().tag(sync=True)

    def __init__(self, session: Session | None = None, **traits: Any) -> None:
        self._told = 0.0
        self._shown: Allocation | None = None
        self._front: tuple[FrontPoint, ...] | None = None
        self._unsubscribe: tuple[Callable[[], None], ...] = ()
        super().__init__(session, **traits)

    def attach(self, session: Session) -> None:
        """Show ``session`` from now on."""
        super().attach(session)
        self._unsubscribe = (
            searches_of(session).subscribe(self._on_searches(session)),
            fronts_of(session).subscribe(self._on_fronts(session)),
        )

    def detach(self) -> None:
        """Stop drawing; the search goes on."""
        for end in self._unsubscribe:
            end()
        super().detach()

    def begin(self, session: Session) -> None:
        """Show what was found before."""
        self._shown, self._front, self.problem, self.applied = None, None, "", ""
        self.dense, self.answers, self.about, self.front = {}, [], {}, []
        self._show(searches_of(session))
        self._show_front(fronts_of(session))

    def mark(self, marks: Any) -> None:
        """Count the locked layers, which the search leaves as they are."""
        self.locked = len(marks.locked)

    def draw(self, snapshot: Snapshot) -> None:
        """Show what a budget can be measured against, and which answer is set now."""
        with self.publishing():
            baseline = snapshot.baseline
            if not self.dense and baseline.size and baseline.score and snapshot.layers:
                self.dense = {
                    "accuracy": baseline.score.value,
                    "bytes": baseline.size.bytes,
                    "runtime_bytes": baseline.size.runtime_bytes,
                    "ms": baseline.latency.ms if baseline.latency else None,
                    "macs": sum(layer.macs for layer in self.session.layers) if self.session else None,
                    "test": baseline.score.split,
                    "judged": "accuracy" if baseline.accuracy else "agreement",
                }
            self.applied = snapshot.recipe_hash
            if self.session is not None:
                self._show(searches_of(self.session))
                self._show_front(fronts_of(self.session))
                self._show_front(fronts_of(self.session))

    def receive(self, content: dict[str, Any], buffers: list[Any]) -> None:
        """Do what the page asked for."""
        if self.session is None:
            return
        match content.get("do"):
            case "start":
                self.start(content["kind"], float(content["amount"]), content["techniques"])
            case "cancel":
                searches_of(self.session).cancel()
            case "apply":
                self.apply(content["by"])
            case "evolve":
                self.evolve(content["techniques"])
            case "rest":
                fronts_of(self.session).cancel()
            case "take":
                self.take(str(content["hash"]))

    def start(self, kind: str, amount: float, techniques: list[str]) -> None:
        """Start a search: ``amount`` in the unit that the page shows for ``kind``."""
        assert self.session is not None
        problem = ""
        try:
            budget = Budget(kind, amount * KINDS[kind][1])  # type: ignore[arg-type]
            searches_of(self.session).start(self.session, budget, techniques, sorted(self.marks.locked))
        except WorkbenchError as refused:
            problem = str(refused)
        with self.publishing():
            self.problem = problem

    def evolve(self, techniques: list[str]) -> None:
        """Start a front by these techniques; locked layers keep what they have."""
        assert self.session is not None
        problem = ""
        try:
            fronts_of(self.session).start(self.session, TRIALS, techniques, sorted(self.marks.locked))
        except WorkbenchError as refused:
            problem = str(refused)
        with self.publishing():
            self.problem = problem

    def take(self, recipe_hash: str) -> None:
        """Set the Session's recipe to a point of the front; undo goes back."""
        assert self.session is not None
        recipe = next((one.recipe for one in fronts_of(self.session).points if one.recipe.hash == recipe_hash), None)
        if recipe is not None:
            self.change(lambda _: recipe)

    def apply(self, by: str) -> None:
        """Set the Session's recipe to an answer; undo goes back."""
        assert self.session is not None
        found = searches_of(self.session).found
        answer = _answers(found).get(by) if found else None
        if answer is not None:
            recipe = answer.recipe
            self.change(lambda _: recipe)

    def plot(self, area: FigureBase) -> None:
        """Draw the answers, accuracy foreseen and measured; or the front, where that is all there is."""
        found = searches_of(self.session).found if self.session is not None else None
        points = fronts_of(self.session).points if self.session is not None else ()
        if found is None and points:
            draw_front(area, points)
            return
        if found is None:
            raise WorkbenchError("There is nothing to draw yet: start a search first.")
        draw_answers(area, found, {by: TITLES[by] for by in _answers(found)}, _answers(found))

    def _on_searches(self, session: Session) -> Callable[[Searches], None]:
        def follow(searches: Searches) -> None:
            if self.session is not session:
                return
            now = time.monotonic()
            if searches.running and searches.found is self._shown and now - self._told < PACE:
                return
            self._told = now
            if self.visible:
                with self.publishing():
                    self._show(searches)

        return follow

    def _on_fronts(self, session: Session) -> Callable[[Fronts], None]:
        def follow(fronts: Fronts) -> None:
            if self.session is session and self.visible:
                with self.publishing():
                    self._show_front(fronts)

        return follow

    def _show_front(self, fronts: Fronts) -> None:
        """Set the traits that show the front."""
        if fronts.points is not self._front:
            self._front = fronts.points
            self.front = [
                {
                    "hash": point.recipe.hash, "accuracy": point.accuracy.value, "bytes": point.bytes, "ms": point.ms,
                    "words": in_words(point.recipe.to_data()),
                }
                for point in fronts.points
            ]  # fmt: skip
        progress = fronts.progress
        self.evolving = {} if progress is None else {
            "state": progress.state, "done": int(progress.done), "total": int(progress.total), "error": progress.error,
            "left": None if progress.left is None else round(progress.left), "remark": fronts.remark,
        }  # fmt: skip

    def _show(self, searches: Searches) -> None:
        """Set the traits that show the search."""
        found = searches.found
        if found is not self._shown:
            self._shown = found
            self.answers = [_row(by, answer) for by, answer in _answers(found).items()] if found else []
            self.about = _about(found) if found else {}
            if self.session is not None:
                self.applied = self.session.recipe.hash
        self.progress = _progress(searches)


def _answers(found: Allocation) -> dict[str, Answer]:
    answers = {"exact": found.best, "greedy": found.greedy, "uniform": found.uniform}
    return {by: answer for by, answer in answers.items() if answer is not None}


def _row(by: str, answer: Answer) -> dict[str, Any]:
    shown = answer.reported or answer.validation
    size, latency = (shown.size, shown.latency) if shown else (None, None)
    reported = answer.reported.score if answer.reported else None
    return {
        "by": by,
        "title": TITLES[by],
        "hash": answer.recipe.hash,
        "repair": REPAIRS.get(answer.repair, ""),
        "foreseen": [answer.predicted.value, answer.predicted.low, answer.predicted.high],
        "validation": answer.accuracy if answer.validation else None,
        "test": reported.value if reported else None,
        "bytes": size.bytes if size else None,
        "runtime_bytes": size.runtime_bytes if size else None,
        "ms": latency.ms if latency else None,
        "macs": sum(layer.macs for layer in shown.layers) if shown else None,
    }


def _about(found: Allocation) -> dict[str, Any]:
    return {
        "kind": found.budget.kind,
        "budget": found.budget.say(),
        "remarks": list(found.remarks),
        "searched": found.searched,
        "done": found.done,
        "images": found.images,
        "measured": len(found.candidates),
        "locked": list(found.locked),
    }


def _progress(searches: Searches) -> dict[str, Any]:
    progress = searches.progress
    if progress is None:
        return {}
    return {
        "state": progress.state,
        "doing": STAGES.get(searches.doing, ""),
        "share": round(progress.share, 3),
        "seconds": round(progress.seconds, 1),
        "left": None if progress.left is None else round(progress.left),
        "error": progress.error,
    }
