"""The answers to a budget, and a front, as figures for a paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..base import plots

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

    from workbench.search.allocation import Allocation, Answer
    from workbench.search.front import FrontPoint


def draw_answers(area: FigureBase, found: Allocation, titles: Mapping[str, str], answers: Mapping[str, Answer]) -> None:
    """Draw each answer's accuracy: foreseen with its interval, on the validation split, and on the reporting split."""
    axes = area.subplots()
    for row, (by, answer) in enumerate(answers.items()):
        predicted = answer.predicted
        axes.plot(
            [100 * predicted.low, 100 * predicted.high], [row, row], color=plots.SOFT, linewidth=6, zorder=1,
            solid_capstyle="butt", label="foreseen, 95 %" if row == 0 else None,
        )  # fmt: skip
        axes.plot(100 * answer.accuracy, row, "o", color=plots.ACCENT, zorder=3, label=None if row else "validation")
        reported = answer.reported.score if answer.reported else None
        if reported is not None:
            axes.plot(
                100 * reported.value, row, "D", color=plots.SERIES[1], zorder=2, label=None if row else reported.split
            )
        axes.annotate(f"{answer.cost:,.4g}", (1.01, row), xycoords=("axes fraction", "data"), va="center", fontsize=6.5)
        axes.set_yticks(range(len(answers)), [titles[by] for by in answers])
    axes.axvline(100 * found.searched, color=plots.BASE, linewidth=0.9, linestyle="--", zorder=0)
    axes.invert_yaxis()
    axes.set_xlabel("Accuracy (%)")
    axes.legend(loc="best")
    plots.note(axes, f"at most {found.budget.say()}; dashed: dense, validation")


def draw_front(area: FigureBase, points: Sequence[FrontPoint]) -> None:
    """Draw the accuracy of each of ``points`` over its size, the darker the faster."""
    axes = area.subplots()
    times = [point.ms if point.ms is not None else 0.0 for point in points]
    drawn = axes.scatter(
        [point.bytes / 1e3 for point in points], [100 * point.accuracy.value for point in points], c=times,
        cmap="viridis", s=14, zorder=3,
    )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlabel("Size of the packed file (kB)")
    axes.set_ylabel(f"Share of {points[0].accuracy.n:,} {points[0].accuracy.split} images (%)")
    if any(times):
        area.colorbar(drawn, ax=axes, label="Predicted latency (ms)")
    plots.note(axes, "right, or as the dense model where there are no labels; by NSGA-II")
