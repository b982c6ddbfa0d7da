"""What more stages give, as a figure for a paper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..base import plots

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase


def draw_speedups(area: FigureBase, found: dict[str, Any]) -> None:
    """Draw the speed-up foretold for each number of stages, the ideal, and the one that was measured."""
    axes = area.subplots()
    stages = [entry["stages"] for entry in found["forecast"]]
    axes.plot(stages, stages, color=plots.LINE, linewidth=1, label="ideal")
    speedups = [entry["speedup"] for entry in found["forecast"]]
    axes.plot(stages, speedups, color=plots.ACCENT, marker=".", linewidth=1.2, label="foretold")
    axes.plot([found["stages"]], [found["speedup"]], color=plots.TEXT, marker="o", linestyle="none", label="measured")
    axes.set_xlabel("Processes, a core each")
    axes.set_ylabel("Throughput ÷ that of one")
    axes.legend()
    plots.note(axes, f"{found['microbatches']} microbatches of {found['microbatch']}")
