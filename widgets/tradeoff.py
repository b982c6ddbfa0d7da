"""Trade-off."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .view import View, script, style

if TYPE_CHECKING:
    from workbench.snapshot import Snapshot


class TradeoffView(View):
    """Trade-off."""

    _esm = script("tradeoff.js")
    _css = style("tradeoff.css")

    def draw(self, snapshot: Snapshot) -> None:
        """Draw."""
