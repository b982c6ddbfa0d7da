"""All views of one Session, laid out as the app shows them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, ClassVar

import ipywidgets

from ..allocation.view import AllocationView
from ..anatomy.view import AnatomyView
from ..base import plots
from ..base.picture import Pictured
from ..base.view import View, require_session, style
from ..base.widget import Widget
from ..behaviour.view import BehaviourView
from ..controls.view import ControlsView
from ..devices.view import DevicesView
from ..examples.view import ExamplesView
from ..export.view import ExportView
from ..fusion.view import FusionView
from ..layers.view import LayersView
from ..monitor.view import MonitorView
from ..picker.view import PickerView
from ..pipeline.view import PipelineView
from ..recipe.view import RecipeView
from ..scoreboard.view import ScoreboardView
from ..sensitivity.view import SensitivityView
from ..split.view import SplitView
from ..tradeoff.view import TradeoffView
from ..train.view import TrainView
from ..weights.view import WeightView
from .tabs import TabsView
from .tour import TourView

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

    from workbench.session import Session

#: The panels behind the tabs, in the tabs' order.
TABS: dict[str, tuple[str, type[View]]] = {
    "layers": ("Layers", LayersView),
    "anatomy": ("Architecture", AnatomyView),
    "sensitivity": ("Sensitivity", SensitivityView),
    "allocation": ("Find the best", AllocationView),
    "tradeoff": ("Trade-off", TradeoffView),
    "behaviour": ("Behaviour", BehaviourView),
    "examples": ("Examples", ExamplesView),
    "weights": ("Weights", WeightView),
    "train": ("Train", TrainView),
    "recipe": ("Recipe", RecipeView),
}
#: The parts of the last tab, each a panel under a row of its own.
DEPLOY: dict[str, tuple[str, type[View]]] = {
    "export": ("Export", ExportView),
    "devices": ("Devices", DevicesView),
    "split": ("Split", SplitView),
    "pipeline": ("Pipeline", PipelineView),
    "fusion": ("Fusion", FusionView),
    "monitor": ("Monitor", MonitorView),
}


class PageStyle(Widget):
    """Carries the page's grid to the browser and tells when it is there; draws nothing.

    A page that opens on a kernel at work fetches every widget's state and then makes its models; what was
    sent in between reaches neither. So when the page is there, the views say everything once more.
    """

    _esm = "export default { render({ model, el }) { el.style.display = 'none'; model.send({ do: 'repeat' }); } }"
    _css = style("page/workbench.css")


class Workbench(Pictured, ipywidgets.Box):
    """The whole page over a Session: ``Workbench(session)``, or ``Workbench("resnet20", "fashion_mnist")``.

    Without arguments it opens what the app opens: ResNet-20 on Fashion-MNIST. Given names, it shows itself
    at once and loads in the background; ``session`` waits for that. A Session it opened itself is closed
    with it, or when another is picked; one it was given is left alone.

    ``panels`` maps names to the views behind the tabs, those of the last tab's parts included.
    """

    figure_size: ClassVar[tuple[float, float]] = (plots.DOUBLE, 4.8)

    def __init__(self, session: Session | str | None = None, data: str | None = None) -> None:
        self._own: Session | None = None
        self.picker = PickerView(loaded=self._show, unread=self._keep)
        self.scoreboard = ScoreboardView(wants=self._open)
        self.controls = ControlsView()
        self.weights = WeightView(compact=True)
        self.tour = TourView()
        self.strip = ExamplesView(strip=True)
        self.panels: dict[str, View] = {
            name: make(visible=place == 0) for place, (name, (_, make)) in enumerate({**TABS, **DEPLOY}.items())
        }
        self.tabs = TabsView.over({**{name: title for name, (title, _) in TABS.items()}, "deploy": "Deploy"})
        self.parts = TabsView.over({name: title for name, (title, _) in DEPLOY.items()}, label="Deploy")
        for area, view in self._areas().items():
            view.add_class(f"wb-area-{area}")
        deploy = ipywidgets.Box([self.parts, *(self.panels[name] for name in DEPLOY)])
        tabbed = {**{name: self.panels[name] for name in TABS}, "deploy": deploy}
        for rows in (tabbed, {name: self.panels[name] for name in DEPLOY}):
            for place, (name, panel) in enumerate(rows.items()):
                panel.add_class("wb-panel")
                panel.add_class(f"wb-panel-{name}")
                if place:
                    panel.add_class("wb-panel-hidden")
        left = ipywidgets.Box([self.controls, self.weights])
        left.add_class("wb-left")
        right = ipywidgets.Box([self.scoreboard, self.tabs, *tabbed.values(), self.strip])
        right.add_class("wb-right")
        grid = PageStyle()
        grid.on_msg(self._repeat)
        page = ipywidgets.Box([grid, self.picker, self.tour, left, right])
        page.add_class("wb-page")
        super().__init__([page])
        self.add_class("wb-host")
        self._loading: threading.Thread | None = None
        if session is None or isinstance(session, str):
            self._loading = self.picker.choose(session or "", data or "")
        else:
            require_session(session, "Workbench")
            self._attach(session)

    @property
    def session(self) -> Session:
        """The Session shown, once it is loaded. Raises ``RuntimeError`` where loading failed."""
        if self._loading is not None:
            self._loading.join()
        session = self.scoreboard.session
        if session is None:
            raise RuntimeError(self.picker.error or "No model is loaded.")
        return session

    @property
    def views(self) -> tuple[View, ...]:
        """All views, in the order in which they are drawn: what a hand on a slider waits for comes first."""
        return (self.scoreboard, self.controls, self.weights, self.picker, *self.panels.values(), self.strip, self.tour)

    def plot(self, area: FigureBase) -> None:
        """Draw the headline figures, the layers and the selected layer's weights."""
        from .figure import plot_page

        plot_page(area, self.scoreboard, self.panels["layers"], self.weights)

    def close(self) -> None:
        """Close the views, and the Session if the Workbench opened it."""
        self._forget_picture()
        self.picker.close()  # first: what it is loading would be shown by views that are closed, and stay open
        for view in self.views:
            view.close()
        own = self._own
        self._own = None
        if own is not None:
            own.close()
        super().close()

    def _shown_session(self) -> Session | None:
        return self.scoreboard.session

    def _parts(self) -> tuple[View, ...]:
        return self.views

    def _areas(self) -> dict[str, Widget]:
        return {
            "head": self.picker,
            "hint": self.tour,
            "scores": self.scoreboard,
            "controls": self.controls,
            "weights": self.weights,
            "tabs": self.tabs,
            "strip": self.strip,
        }

    def _repeat(self, *_: Any) -> None:
        for view in self.views:
            view.repeat()

    def _attach(self, session: Session) -> None:
        for view in self.views:
            if view.session is not session:
                view.attach(session)

    def _open(self, tab: str) -> None:
        """Show a tab that a view points to."""
        self.tabs.chosen = tab

    def _keep(self, recipe: str) -> None:
        """Put a recipe that could not be applied into the editor, and show it."""
        editor = self.panels["recipe"]
        assert isinstance(editor, RecipeView)
        editor.keep(recipe)
        self.tabs.chosen = "recipe"

    def _show(self, session: Session) -> None:
        own = self._own
        self._own = session
        self._attach(session)
        if own is not None:
            own.close()

    def _repr_keys(self) -> Any:  # a short repr: ipywidgets' lists every child
        return iter(())
