"""The model as a graph, coloured by any figure, and the selected layer in depth.

The graph is traced once for a Session, when someone first looks; colours follow every Snapshot. The layer in depth is
computed on a thread of its own once a setting has settled, and anew when another layer is selected, here or elsewhere.
The profile of the uncompressed model is measured when it is asked for, and its suggestions can be applied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from workbench.analyze.depth import Depth, look_into
from workbench.analyze.layer_graph import layer_graph
from workbench.analyze.profile import profile_baseline
from workbench.analyze.profile_words import describe_profile
from workbench.errors import WorkbenchError
from workbench.recipe import Recipe

from ..base import plots
from ..base.errands import Errands
from ..base.view import View, script, style
from ..base.words import in_words
from .boxes import for_page

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

    from workbench.session import Session
    from workbench.snapshot import Snapshot

    from ..base.marks import Marks

#: What the graph can be coloured by: name → title.
FIGURES = {
    "size": "Share of size", "time": "Share of time", "macs": "Share of MACs", "sparsity": "Zeros", "bits": "Bits",
}  # fmt: skip


class AnatomyView(View):
    """``values`` holds a float32 row a figure, in the order of ``figures``, a number a layer; NaN where unknown."""

    _esm = script("anatomy/graph.js", "anatomy/depth.js", "anatomy/roofline.js", "anatomy/anatomy.js")
    _css = style("anatomy/anatomy.css")

    figure_size = (plots.DOUBLE, 2.6)
    patience = 0.2

    figures: traitlets.Dict[str, str] = traitlets.Dict(FIGURES).tag(sync=True)
    colour = traitlets.Enum(tuple(FIGURES), "size").tag(sync=True, echo_update=False)
    layers: traitlets.List[str] = traitlets.List().tag(sync=True)
    graph = traitlets.Dict().tag(sync=True)
    selected: traitlets.List[int] = traitlets.List().tag(sync=True)
    values = traitlets.Bytes(b"").tag(sync=True, echo_update=False)
    depth = traitlets.Dict().tag(sync=True)
    profile = traitlets.Dict().tag(sync=True)
    profiling = traitlets.Bool(False).tag(sync=True)
    problem = traitlets.Unicode("").tag(sync=True)

    def __init__(self, session: Session | None = None, **traits: Any) -> None:
        self._errands = Errands("workbench-anatomy")
        self._found: Depth | None = None
        super().__init__(session, **traits)

    def begin(self, session: Session) -> None:
        """Forget the model of the Session before."""
        self._found = None
        self.layers = [layer.name for layer in session.layers]
        self.graph, self.depth, self.profile, self.values, self.problem = {}, {}, {}, b"", ""
        self.profiling = False

    def mark(self, marks: Marks) -> None:
        """Show which layers are selected, and look into the one chosen last."""
        places = {name: place for place, name in enumerate(self.layers)}
        self.selected = [places[name] for name in marks.selected if name in places]
        if self.session is not None and self.visible:
            self._look()

    def draw(self, snapshot: Snapshot) -> None:
        """Colour the graph; once the setting has settled, look into the selected layer."""
        session = self.session
        if session is None or not snapshot.layers:
            return
        if not self.graph:
            self._errands.run("graph", lambda: self._trace(session))
        shares = session.time_shares()
        weights = {layer.name: layer.weight for layer in session.layers}
        total, macs = (max(1, sum(getattr(one, what) for one in snapshot.layers)) for what in ("bytes", "macs"))
        rows = [
            [one.bytes / total for one in snapshot.layers],
            [shares.get(weights.get(one.name, ""), np.nan) for one in snapshot.layers],
            [one.macs / macs for one in snapshot.layers],
            [one.sparsity for one in snapshot.layers],
            [one.bits for one in snapshot.layers],
        ]
        with self.publishing():
            self.values = np.asarray(rows, np.float32).tobytes()
        if snapshot.settled and not snapshot.error:
            self._look()

    def receive(self, content: dict[str, Any], buffers: list[Any]) -> None:
        """Select a layer; profile the uncompressed model; apply a recipe that its profile suggests."""
        session = self.session
        if session is None:
            return
        match content.get("do"):
            case "select" if 0 <= int(content["layer"]) < len(self.layers):
                self.marks.select(self.layers[int(content["layer"])])
            case "profile" if not self.profiling:
                with self.publishing():
                    self.profiling = True
                self._errands.run("profile", lambda: self._measure(session))
            case "apply" if self.profile:
                suggested = self.profile["words"]["suggestions"][int(content["suggestion"])]
                self.change(lambda _: Recipe.parse(suggested["recipe"]))

    def plot(self, area: FigureBase) -> None:
        """Draw the selected layer's channels, before and after."""
        from .figure import draw_depth

        if self._found is None:
            raise WorkbenchError("There is nothing to draw yet: open the view and select a layer first.")
        draw_depth(area, self._found)

    def _trace(self, session: Session) -> None:
        found = layer_graph(session).to_json()
        with self.publishing():
            if session is self.session:
                self.graph = found

    def _measure(self, session: Session) -> None:
        session.give_way(lambda: session is not self.session)
        problem, told = "", {}
        try:
            found = profile_baseline(session)
            told = {**found.to_json(), "words": describe_profile(found).to_json()}
        except WorkbenchError as error:
            problem = str(error)
        with self.publishing():
            if session is self.session:
                self.profiling, self.problem, self.profile = False, problem, told

    def _look(self) -> None:
        session = self.session
        if session is None or not session.snapshot.settled:
            return
        layer, recipe = self.marks.layer, session.recipe

        def work() -> None:
            problem, found = "", None
            try:
                found = look_into(session, layer, recipe)
            except WorkbenchError as error:  # the layer was removed
                problem = str(error)
            with self.publishing():
                # of a setting that was left meanwhile nobody asks any more; the next one's is on its way
                if session is self.session and layer == self.marks.layer and recipe == session.recipe:
                    self._found, self.problem = found, problem
                    words = in_words(recipe.to_data())
                    self.depth = {} if found is None else {**for_page(found), "words": words, "recipe": recipe.hash}

        if layer:
            self._errands.run("depth", work)
