"""Figures of what a view shows, and the picture it leaves in a saved notebook.

A notebook that is opened without a kernel cannot show a live widget. So showing a view gives the cell
three outputs: the live widget, one line of style, and a picture. The style hides the picture as long as
the widget above it lives, and hides the widget's error line when it does not. It needs no script, so it
works wherever HTML outputs may have a style (JupyterLab, Notebook 7; VS Code by the same rules); where they
may not (GitHub, nbviewer, a notebook that is not trusted) the picture is simply there.

The picture is drawn by a thread of its own, once everything has been still for two seconds: never while a
hand is on a slider. It reaches the saved file as an update of the cell's output, sent in the context of the
cell that showed the view, so that it carries that cell's header whatever else runs meanwhile. When the page
has been reloaded, JupyterLab no longer knows that cell by its header; then the ``Keeper`` finds it by its mark.

In Voila nothing is saved, and no picture is made.
"""

from __future__ import annotations

import contextvars
import logging
import os
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from workbench.errors import WorkbenchError

from . import plots
from .keeper import Keeper

if TYPE_CHECKING:
    from matplotlib.figure import Figure, FigureBase

    from workbench.session import Session

#: Seconds without any change before a picture is drawn.
STILL = 2.0
#: What kernels find in their environment under `workbench app`, and under any other Voila.
SERVED = ("WORKBENCH_SERVED", "VOILA_BASE_URL")
_log = logging.getLogger(__name__)
_drawing = threading.Lock()  # one picture at a time: drawing takes the processor from what is live


def _style(place: str) -> str:
    """Return the style that shows either the live widget or the picture after it, marked with its ``place``."""
    rules = []
    for output in (".jp-OutputArea-child", ".output_container"):
        marker = f"{output}:has(.wb-picture-style)"
        rules.append(f"{output}:has(.wb) + {marker} + {output}, {marker} {{ display: none !important; }}")
    # a widget that could not be restored is a panel with nothing but words in it
    panel = "> .jp-OutputArea-output"
    dead = f".jp-OutputArea-child:has({panel}.lm-Panel):not(:has({panel} > *)):has(+ * .wb-picture-style)"
    rules.append(f"{dead} {{ display: none !important; }}")
    return f'<style class="wb-picture-style" data-picture="{place}">{" ".join(rules)}</style>'


class Pictured:
    """What can be drawn as a figure: a view, or the whole Workbench. Subclasses write ``plot``."""

    #: Width and height of the figure in inches.
    figure_size: ClassVar[tuple[float, float]] = (plots.SINGLE, 2.4)

    _picture: Picture | None = None

    def plot(self, area: FigureBase) -> None:
        """Draw what is shown into a figure, or into a part of one."""
        raise WorkbenchError(f"{type(self).__name__} has no figure; the views that show data have one.")

    def figure(self) -> Figure:
        """Return what is shown, as a matplotlib figure fit for a paper.

        Raises ``WorkbenchError`` where there is nothing to draw, or matplotlib is not installed.
        """
        if self._shown_session() is None:
            raise WorkbenchError("There is nothing to draw yet: no model is loaded.")
        figure = plots.new_figure(*self.figure_size)
        self.plot(figure)
        return plots.finish(figure)

    def save(self, path: str | Path) -> Path:
        """Write the figure as PNG, SVG, PDF or EPS, by the suffix, and return the path.

        Raises ``WorkbenchError`` for another suffix, or a file that cannot be written.
        """
        return plots.save(self.figure(), path, self._about())

    def _about(self) -> str:
        """Return what the figure is of: model, data and recipe."""
        session = self._shown_session()
        if session is None:
            return ""
        return f"{session.model.name} on {session.data.name}: {session.snapshot.recipe.to_json()}"

    def _shown_session(self) -> Session | None:
        """Return the Session on display, without waiting for one."""
        raise NotImplementedError

    def _parts(self) -> tuple[Any, ...]:
        """Return the widgets whose changes change the picture."""
        return (self,)

    def _ipython_display_(self, **_: Any) -> None:
        from IPython.display import display

        bundle: Any = self._repr_mimebundle_()  # type: ignore[attr-defined]
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        pictured = _in_notebook() and self._has_figure()
        if pictured:
            data["text/plain"] = f"{type(self).__name__}: run this cell to use it. Its last state:"
        display(data, metadata=metadata, raw=True)
        if pictured:
            self._picture = self._picture or Picture(self)
            self._picture.show()

    def _has_figure(self) -> bool:
        kind = type(self)
        return kind.plot is not Pictured.plot or kind.figure is not Pictured.figure

    def _forget_picture(self) -> None:
        if self._picture is not None:
            self._picture.close()


class Picture:
    """The picture under a view in a notebook; it follows the view until closed."""

    def __init__(self, owner: Pictured) -> None:
        self._owner = owner
        self._id = f"workbench-{uuid.uuid4().hex}"
        self._changed = threading.Condition()
        self._due = 0.0
        self._wanted = True
        self._closed = False
        self._sent = b""
        self._thread: threading.Thread | None = None
        self._keeper: Keeper | None = None

    def show(self) -> None:
        """Put the picture's place into the output of the running cell."""
        from IPython.display import display

        display({"text/html": _style(self._id)}, raw=True)
        data, metadata = self._bundle()
        display(data, metadata=metadata, raw=True, display_id=self._id)
        if self._thread is None:
            self._keeper = Keeper(place=self._id)
            for part in self._owner._parts():
                part.observe(self.touch)
            context = contextvars.copy_context()
            self._thread = threading.Thread(
                target=context.run, args=(self._run,), name="workbench-picture", daemon=True
            )
            self.touch()
            self._thread.start()

    def touch(self, _change: Any = None) -> None:
        """Something changed: draw when all has been still for a while."""
        with self._changed:
            self._due = time.monotonic() + STILL
            self._wanted = True
            self._changed.notify()

    def close(self) -> None:
        """Follow the view no longer; the last picture stays."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._keeper is not None:
            self._keeper.close()

    def _run(self) -> None:
        while self._wait():
            session = self._owner._shown_session()
            if session is None or not session.snapshot.settled:
                self._put_off()
                continue
            try:
                with _drawing:
                    self._update()
            except Exception:  # the live view goes on without
                _log.debug("No picture of %s could be drawn.", type(self._owner).__name__, exc_info=True)

    def _wait(self) -> bool:
        """Wait until a picture is due; return whether to go on."""
        with self._changed:
            while not self._closed:
                left = self._due - time.monotonic() if self._wanted else None
                if left is not None and left <= 0:
                    self._wanted = False
                    return True
                self._changed.wait(left)
        return False

    def _put_off(self) -> None:
        """Look again later: figures are still on their way, and not each of them changes the view."""
        with self._changed:
            if not self._wanted:
                self._wanted, self._due = True, time.monotonic() + STILL

    def _update(self) -> None:
        from IPython.display import update_display

        drawn = plots.png(self._owner.figure(), self._owner._about())
        if drawn == self._sent or self._closed:
            return
        self._sent = drawn
        data, metadata = self._bundle()
        update_display(data, metadata=metadata, raw=True, display_id=self._id)

    def _bundle(self) -> tuple[dict[str, Any], dict[str, Any]]:
        if not self._sent:
            return {"text/plain": ""}, {}
        width = round(self._owner.figure_size[0] * plots.PIXELS)
        name = f"Picture of {type(self._owner).__name__}"
        return {"image/png": self._sent, "text/plain": name}, {"image/png": {"width": width}}


def _in_notebook() -> bool:
    """Return whether outputs go into a notebook that may be saved: there is a kernel, and it is not the app's."""
    if any(name in os.environ for name in SERVED):
        return False
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return getattr(get_ipython(), "kernel", None) is not None
