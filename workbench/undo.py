"""The path of settled settings that undo and redo walk."""

from __future__ import annotations

from workbench.recipe import Recipe


class UndoPath:
    """Settled recipes in the order they were reached; setting a new one drops what was undone."""

    def __init__(self) -> None:
        self._recipes: list[Recipe] = []
        self._at = -1

    @property
    def current(self) -> Recipe | None:
        """The settled recipe the path stands at."""
        return self._recipes[self._at] if self._recipes else None

    def visit(self, recipe: Recipe) -> None:
        """Note that ``recipe`` has settled: a step along the path, or a new end of it."""
        for step in (0, -1, 1):
            place = self._at + step
            if 0 <= place < len(self._recipes) and self._recipes[place] == recipe:
                self._at = place
                return
        del self._recipes[self._at + 1 :]
        self._recipes.append(recipe)
        self._at = len(self._recipes) - 1

    def before(self, present: Recipe) -> Recipe | None:
        """Return where undo leads from ``present``: the last settled one, or the one before it."""
        if self.current is not None and present != self.current:
            return self.current
        return self._recipes[self._at - 1] if self._at > 0 else None

    def after(self, present: Recipe) -> Recipe | None:
        """Return where redo leads from ``present``."""
        if present != self.current or self._at + 1 >= len(self._recipes):
            return None
        return self._recipes[self._at + 1]
