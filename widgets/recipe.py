"""Recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .view import View, script, style

if TYPE_CHECKING:
    from workbench.snapshot import Snapshot


class RecipeView(View):
    """Recipe."""

    _esm = script("recipe.js")
    _css = style("recipe.css")

    def draw(self, snapshot: Snapshot) -> None:
        """Draw."""
