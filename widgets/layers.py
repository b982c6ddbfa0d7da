"""Layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .view import View, script, style

if TYPE_CHECKING:
    from workbench.snapshot import Snapshot


class LayersView(View):
    """Layers."""

    _esm = script("layers.js")
    _css = style("layers.css")

    def draw(self, snapshot: Snapshot) -> None:
        """Draw."""
