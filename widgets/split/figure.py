"""What each cut costs, as a figure for a paper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..base import plots

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase


def draw_cuts(area: FigureBase, plan: dict[str, Any]) -> None:
    """Draw a bar for each cut of ``plan``: time on the device, on the link and on the server."""
    axes = area.subplots()
    cuts, floor = plan["cuts"], np.zeros(len(plan["cuts"]))
    parts = (("device_ms", "device", plots.ACCENT), ("network_ms", "network", plots.SERIES[1]))
    for name, label, colour in (*parts, ("server_ms", "server", plots.BASE)):
        values = np.array([cut[name] for cut in cuts])
        axes.bar(range(len(cuts)), values, bottom=floor, color=colour, label=label, width=0.7)
        floor += values
    best = [cut["name"] for cut in cuts].index(plan["best"])
    axes.annotate("quickest", (best, floor[best]), ha="center", va="bottom")
    axes.set_ylabel("ms from image to answer")
    axes.set_xticks(range(len(cuts)), [cut["name"] for cut in cuts], rotation=90)
    axes.legend()
    link = plan["network"]
    told = f"{link['name']}: {link['mbps']:g} Mbit/s, {link['rtt_ms']:g} ms; device {plan['slowdown']:.3g}× slower"
    plots.note(axes, f"{told}; values of {plan['bits']} bits, {plan['images']} images")
