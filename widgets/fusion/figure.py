"""Operators before and kernels after a runtime's fusions, as a figure for a paper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..base import plots

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase


def draw_counts(area: FigureBase, found: dict[str, Any]) -> None:
    """Draw how many of each operator there are before, and of each kernel after."""
    left, right = area.subplots(1, 2)
    for axes, when, colour in ((left, "before", plots.BASE), (right, "after", plots.ACCENT)):
        counts = found["counts"][when]
        names = list(reversed(counts))
        axes.barh(range(len(names)), [counts[name] for name in names], color=colour, height=0.7)
        axes.set_yticks(range(len(names)), names)
        plots.title(axes, f"{sum(counts.values())} {'operators' if when == 'before' else 'kernels'}")
    plots.note(right, found["runtime"])
