"""The type of figure that views return: matplotlib's, which a notebook shows without pyplot's help."""

from __future__ import annotations

from matplotlib.figure import Figure

from . import plots


class PaperFigure(Figure):
    """A matplotlib figure whose value at the end of a cell is its picture."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        return plots.png(self), {"width": round(self.get_figwidth() * plots.PIXELS)}
