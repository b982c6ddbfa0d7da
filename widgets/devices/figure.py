"""What devices would make of a setting, as a figure for a paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..base import plots

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase


def draw_devices(area: FigureBase, rows: Sequence[dict[str, Any]], shown: str) -> None:
    """Draw the ratio to the dense model's time on each device, with its 90 % interval, on a logarithmic axis."""
    axes = area.subplots()
    for place, row in enumerate(reversed(rows)):
        value, low, high = row["ratio"]
        axes.plot([low, high], [place, place], color=plots.SOFT, linewidth=4, solid_capstyle="butt")
        axes.plot([value], [place], color=plots.ACCENT, marker="o", markersize=4)
    axes.axvline(1, color=plots.BASE, linewidth=0.8, zorder=0)
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), [row["title"] for row in reversed(rows)])
    axes.set_xlabel("Time ÷ the dense model's, predicted, 90 % intervals")
    plots.note(axes, shown)
