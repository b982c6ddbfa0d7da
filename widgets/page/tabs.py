"""The row of tabs above the panels of a Workbench."""

from __future__ import annotations

import anywidget
import traitlets

from ..base.view import script, style


class TabsView(anywidget.AnyWidget):
    """Shows one of several panels, which are siblings on the page with the class ``wb-panel-NAME``.

    ``tabs`` lists ``{"name", "title"}``; ``chosen`` is the name of the panel shown. The page switches by
    itself, without waiting for the kernel.
    """

    _esm = script("page/tabs.js")
    _css = style("page/tabs.css")

    tabs: traitlets.List[dict[str, str]] = traitlets.List().tag(sync=True)
    chosen = traitlets.Unicode("").tag(sync=True)
