"""The selected layer's channels as a figure for a paper: boxes of weights before and after, ranges of outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..base import plots

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

    from workbench.analyze.depth import Depth


def draw_depth(area: FigureBase, depth: Depth) -> None:
    """Draw what each output channel's weights span, and on the right what the channels put out."""
    left, right = area.subplots(1, 2)
    for weights, colour, shift in ((depth.before, plots.BASE, -0.2), (depth.after, plots.ACCENT, 0.2)):
        if not weights.boxes:
            continue
        places = np.array(weights.channels) + shift
        low, lower, middle, upper, high = np.array(weights.boxes).T
        left.vlines(places, low, high, color=colour, linewidth=0.5)
        left.vlines(places, lower, upper, color=colour, linewidth=2.2)
        left.plot(places, middle, "_", color=plots.TEXT, markersize=2, markeredgewidth=0.6)
    left.set(xlabel=f"Output channel of {depth.layer}", ylabel="Weight")
    for outputs, channels, colour, label in (
        (depth.outputs_before, depth.before.channels, plots.BASE, "before"),
        (depth.outputs_after, depth.after.channels, plots.ACCENT, "after"),
    ):
        if outputs is None or len(outputs.low) != len(channels):
            continue
        places = np.array(channels) + (-0.2 if label == "before" else 0.2)
        right.vlines(places, outputs.low, outputs.high, color=colour, linewidth=1.4, label=label)
    right.set(xlabel="Output channel", ylabel="Output on calibration images")
    if right.get_legend_handles_labels()[0]:
        right.legend(loc="best")
