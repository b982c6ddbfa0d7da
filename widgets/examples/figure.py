"""Flipped images as a figure for a paper: each with its label and both answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from workbench.measure.flips import Flip

from ..base import plots
from .pixels import Pixels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

COLUMNS, ROWS = 8, 2


def draw_examples(area: FigureBase, flips: Sequence[tuple[Flip, Pixels]], classes: Sequence[str]) -> None:
    """Draw the first ``COLUMNS × ROWS`` of ``flips``; where there are none, say so."""
    if not flips:
        axes = area.subplots()
        axes.set_axis_off()
        axes.text(0.5, 0.5, "No answer changed.", ha="center", va="center", color=plots.MUTED)
        return
    grid = area.subplots(ROWS, COLUMNS, squeeze=False)
    for place, axes in enumerate(grid.flat):
        axes.set_axis_off()
        if place < len(flips):
            _draw_one(axes, *flips[place], classes)


def _draw_one(axes: Axes, flip: Flip, pixels: Pixels, classes: Sequence[str]) -> None:
    grey = pixels.shape[2] == 1
    axes.imshow(pixels[..., 0] if grey else pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_title(f"{'× ' if flip.lost else '✓ ' if flip.won else '≠ '}{classes[flip.label]}", fontsize=6.5, pad=2)
    before = f"{classes[flip.before]} {flip.before_confidence:.0%}"
    after = f"{classes[flip.after]} {flip.after_confidence:.0%}"
    below: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": 6, "transform": axes.transAxes}
    axes.text(0.5, -0.03, before, color=plots.MUTED, **below)
    axes.text(0.5, -0.19, f"→ {after}", color=plots.ACCENT, **below)
