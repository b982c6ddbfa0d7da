"""Export."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .view import View, script, style

if TYPE_CHECKING:
    from workbench.snapshot import Snapshot


class ExportView(View):
    """Export."""

    _esm = script("export.js")
    _css = style("export.css")

    def draw(self, snapshot: Snapshot) -> None:
        """Draw."""
