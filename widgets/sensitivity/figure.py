"""A sensitivity sweep as a figure for a paper: the map, and the curves of some layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

    from workbench.analyze.sensitivity import Sensitivity

#: Points lost from which the map has its darkest colour.
MOST = 50.0
#: The map's colours from nothing lost to ``MOST``; lightness falls steadily, so that it also reads in grey.
COLOURS = ("#fbf7ea", "#fde3a3", "#f9b04f", "#e0701b", "#a63c0c", "#5c1d0c")
#: Curves drawn strong, at most.
STRONG = 5


def draw_sensitivity(area: FigureBase, found: Sensitivity, dial: dict[str, Any], selected: Sequence[str]) -> None:
    """Draw ``found`` into ``area``; the curves of ``selected`` are strong, or those of the most sensitive layers."""
    left, right = area.subplots(1, 2, width_ratios=(1.25, 1))
    levels = [f"{100 * level:g}" if dial["percent"] else f"{level:g}" for level in found.levels]
    _draw_map(area, left, found, levels)
    _draw_curves(right, found, levels, _strong(found, selected))
    for axes in (left, right):
        axes.set_xlabel(f"{dial['label']} (%)" if dial["percent"] else dial["label"])


def _draw_map(area: FigureBase, axes: Axes, found: Sensitivity, levels: list[str]) -> None:
    from matplotlib.colors import FuncNorm, LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("points lost", COLOURS)
    norm = FuncNorm((np.log1p, np.expm1), vmin=0, vmax=MOST)
    image = axes.imshow(
        np.clip(100 * found.lost, 0, MOST), cmap=colours, norm=norm, aspect="auto", interpolation="nearest"
    )
    axes.set_xticks(range(len(levels)), levels)
    few = len(found.layers) <= 40
    axes.set_yticks(range(len(found.layers)) if few else [], found.layers if few else [])
    bar = area.colorbar(image, ax=axes, fraction=0.05, pad=0.02, ticks=[0, 1, 5, 20, MOST])
    bar.ax.set_yticklabels(["0", "1", "5", "20", f"≥ {MOST:g}"])
    bar.set_label("Points lost")


def _draw_curves(axes: Axes, found: Sensitivity, levels: list[str], strong: list[int]) -> None:
    places = np.arange(len(levels))
    for row in range(len(found.layers)):
        if row not in strong:
            axes.plot(places, 100 * found.value[row], color=plots.LINE, linewidth=0.6, zorder=1)
    for row, colour in zip(strong, plots.SERIES, strict=False):
        axes.fill_between(
            places, 100 * found.low[row], 100 * found.high[row], color=colour, alpha=0.2, linewidth=0, zorder=2
        )
        axes.plot(places, 100 * found.value[row], color=colour, linewidth=1.2, zorder=3, label=found.layers[row])
    axes.axhline(100 * found.baseline.value, color=plots.BASE, linewidth=0.9, linestyle="--", zorder=0)
    axes.set_xticks(places, levels)
    axes.set_ylabel("Accuracy (%)")
    axes.legend(loc="lower left")
    exact = found.exact
    plots.note(axes, f"{found.total:,} {found.baseline.split} images" + ("" if exact else " at most, 95 % intervals"))


def _strong(found: Sensitivity, selected: Sequence[str]) -> list[int]:
    chosen = [found.layers.index(name) for name in selected if name in found.layers]
    worst = np.argsort(-np.nan_to_num(found.lost[:, -1]), kind="stable")
    return (chosen + [int(row) for row in worst if row not in chosen])[:STRONG]
