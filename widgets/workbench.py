"""All views of one Session, laid out as the app shows them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import anywidget
import ipywidgets

from .controls import ControlsView
from .picker import PickerView
from .scoreboard import ScoreboardView
from .view import View, source
from .weights import WeightView

if TYPE_CHECKING:
    from workbench.session import Session


class PageStyle(anywidget.AnyWidget):
    """Carries the page's grid to the browser; draws nothing."""

    _esm = "export default { render({ el }) { el.hidden = true; el.style.display = 'none'; } }"
    _css = source("base.css", "workbench.css")


class Workbench(ipywidgets.Box):
    """The whole page over a Session: ``Workbench(session)``, or ``Workbench("resnet20", "fashion_mnist")``.

    Without arguments it opens what the app opens: ResNet-20 on Fashion-MNIST. Given names, it shows itself
    at once and loads in the background; ``session`` waits for that. A Session it opened itself is closed
    with it, or when another is picked; one it was given is left alone.
    """

    def __init__(self, session: Session | str | None = None, data: str | None = None) -> None:
        self._own: Session | None = None
        self.picker = PickerView(loaded=self._show)
        self.scoreboard = ScoreboardView()
        self.controls = ControlsView()
        self.weights = WeightView()
        for view, area in self._areas().items():
            view.add_class(f"wb-area-{area}")
        page = ipywidgets.Box([PageStyle(), *self._areas()])
        page.add_class("wb-page")
        super().__init__([page])
        self.add_class("wb-host")
        self._loading: threading.Thread | None = None
        if session is None or isinstance(session, str):
            self._loading = self.picker.choose(session or "", data or "")
        else:
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

    def close(self) -> None:
        """Close the views, and the Session if the Workbench opened it."""
        for view in self._areas():
            view.close()
        own = self._own
        self._own = None
        if own is not None:
            own.close()
        super().close()

    def _areas(self) -> dict[View, str]:
        return {
            self.picker: "head",
            self.scoreboard: "scores",
            self.controls: "controls",
            self.weights: "main",
        }

    def _attach(self, session: Session) -> None:
        # The scoreboard first: what a hand on a slider waits for is drawn before the rest.
        for view in (self.scoreboard, self.controls, self.weights, self.picker):
            if view.session is not session:
                view.attach(session)

    def _show(self, session: Session) -> None:
        own = self._own
        self._own = session
        self._attach(session)
        if own is not None:
            own.close()

    def _repr_keys(self) -> Any:  # a short repr: ipywidgets' lists every child
        return iter(())
