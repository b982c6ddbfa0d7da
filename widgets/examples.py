"""Examples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import traitlets

from .view import View, script, style

if TYPE_CHECKING:
    from workbench.snapshot import Snapshot


class ExamplesView(View):
    """Examples."""

    _esm = script("examples.js")
    strip = traitlets.Bool(False).tag(sync=True)
    _css = style("examples.css")

    def draw(self, snapshot: Snapshot) -> None:
        """Draw."""
