"""How far each feature drifted, window by window, as a figure for a paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..base import plots

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

#: The stability index from which a change counts as some, and as much (Siddiqi 2006).
SOME, MUCH = 0.1, 0.25


def draw_drift(area: FigureBase, windows: NDArray[np.floating[Any]], features: Sequence[str]) -> None:
    """Draw the stability index of each feature over the predictions served."""
    axes = area.subplots()
    for place, (name, colour) in enumerate(zip(features, plots.SERIES, strict=False), 1):
        axes.plot(windows[:, 0], windows[:, place], color=colour, linewidth=1.2, label=name)
    for level, word in ((SOME, "some"), (MUCH, "much")):
        axes.axhline(level, color=plots.LINE, linewidth=0.8, zorder=0)
        axes.annotate(word, (1, level), xycoords=("axes fraction", "data"), ha="right", va="bottom")
    axes.set_xlabel("Predictions served")
    axes.set_ylabel("Population stability index")
    plots.legend_below(area, axes, 3)
