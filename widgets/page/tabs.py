"""The row of tabs above the panels of a Workbench."""

from __future__ import annotations

from collections.abc import Mapping

import traitlets

from ..base.view import script, style
from ..base.widget import Widget


class TabsView(Widget):
    """Shows one of several panels, which are siblings on the page with the class ``wb-panel-NAME``.

    ``tabs`` lists ``{"name", "title"}``; ``chosen`` is the name of the panel shown. The page switches by
    itself, without waiting for the kernel.
    """

    _esm = script("page/tabs.js")
    _css = style("page/tabs.css")

    label = traitlets.Unicode("Views").tag(sync=True)
    tabs: traitlets.List[dict[str, str]] = traitlets.List().tag(sync=True)
    chosen = traitlets.Unicode("").tag(sync=True)

    @classmethod
    def over(cls, titles: Mapping[str, str], label: str = "Views") -> TabsView:
        """Return a row over the panels ``titles`` names, the first one chosen; ``label`` says what they are."""
        tabs = [{"name": name, "title": title} for name, title in titles.items()]
        return cls(tabs=tabs, chosen=next(iter(titles)), label=label)
