"""Sensitivity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .view import View, script, style

if TYPE_CHECKING:
    from workbench.snapshot import Snapshot


class SensitivityView(View):
    """Sensitivity."""

    _esm = script("sensitivity.js")
    _css = style("sensitivity.css")

    def draw(self, snapshot: Snapshot) -> None:
        """Draw."""
