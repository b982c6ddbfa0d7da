"""Curves of trainings as a figure for a paper: validation accuracy by epoch, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..base import plots

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

    from workbench.train.jobs.queue import Entry

#: Normal quantile of a 95 % interval.
Z = 1.96


def interval(share: float, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share of ``n`` images, for images of that kind at large."""
    if n <= 0:
        return share, share
    middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * float(np.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2)))
    return max(0.0, middle - half), min(1.0, middle + half)


def draw_curves(area: FigureBase, entries: Sequence[Entry], n: int) -> None:
    """Draw the curve of each of ``entries`` into ``area``."""
    axes = area.subplots()
    for entry, colour in zip(entries, plots.SERIES * len(entries), strict=False):
        epochs = [point.epoch for point in entry.curve]
        values = [point.accuracy for point in entry.curve]
        low, high = np.array([interval(value, n) for value in values]).T
        if entry.before is not None:
            epochs, values = [0, *epochs], [entry.before, *values]
            first = interval(entry.before, n)
            low, high = np.array([first[0], *low]), np.array([first[1], *high])
        axes.fill_between(epochs, 100 * low, 100 * high, color=colour, alpha=0.2, linewidth=0)
        axes.plot(epochs, 100 * np.array(values), color=colour, linewidth=1.2, marker=".", label=entry.title)
    axes.set_xlabel("Epoch")
    axes.set_ylabel("Validation accuracy (%)")
    axes.legend(loc="lower right")
    plots.note(axes, f"{n:,} validation images, 95 % intervals")
