"""A layer's weights as a matplotlib figure: the histogram, what the channels span, the posterior, the spectrum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.counting import counted

from ..base.plots import ACCENT, BASE, LINE, TEXT, legend_below, note, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

    from workbench.measure.posterior import PosteriorSummary
    from workbench.measure.spectrum import Spectrum
    from workbench.measure.weights import ChannelSummary, WeightSummary


def plot_histogram(area: FigureBase, summary: WeightSummary, *, log: bool = True) -> None:
    """Draw a layer's histogram before and after, with the pruning threshold and the quantizer's grid."""
    axes: Axes = area.subplots()
    left, width = summary.edges[:-1], np.diff(summary.edges)
    axes.bar(left, summary.before, width, align="edge", color=BASE, alpha=0.55, label="before")
    after = "after, zeros left out" if summary.threshold is not None else "after"
    axes.bar(left + 0.2 * width, summary.after, 0.6 * width, align="edge", color=ACCENT, label=after)
    if log:
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.7)
    if summary.threshold is not None:
        axes.axvspan(-summary.threshold, summary.threshold, color=LINE, alpha=0.5, zorder=0, linewidth=0)
        for place, at in enumerate((-summary.threshold, summary.threshold)):
            label = f"threshold ± {summary.threshold:.2g}" if place else None
            axes.axvline(at, color=TEXT, linewidth=0.8, linestyle=(0, (4, 3)), label=label)
    if len(summary.grid):
        shown = summary.grid[(summary.grid >= summary.edges[0]) & (summary.grid <= summary.edges[-1])]
        across = axes.get_xaxis_transform()
        axes.plot(
            shown, np.full(len(shown), 0.015), "|", color=TEXT, markersize=4, transform=across,
            markeredgewidth=0.6 if len(shown) <= 64 else 0.25, label=_levels(summary),
        )  # fmt: skip
    axes.set_xlim(float(summary.edges[0]), float(summary.edges[-1]))
    axes.set_xlabel("weight")
    axes.set_ylabel("weights in the bin")
    legend_below(area, axes)
    title(axes, summary.layer)
    note(axes, describe(summary))


def plot_channels(area: FigureBase, summary: ChannelSummary) -> None:
    """Draw what the weights of each output channel span, and one standard deviation about their mean."""
    axes: Axes = area.subplots()
    low, high, mean, spread = summary.before
    new_low, new_high, new_mean, new_spread, *_ = summary.after
    place = (np.arange(len(low)) + 0.5) * summary.group - 0.5
    wide = 0.86 * summary.group
    _ranges(axes, place, wide, low, high, BASE, 0.35, "before")
    _ranges(axes, place, wide, mean - spread, mean + spread, BASE, 0.6)
    _ranges(axes, place, 0.5 * wide, new_low, new_high, ACCENT, 0.5, "after")
    _ranges(axes, place, 0.5 * wide, new_mean - new_spread, new_mean + new_spread, ACCENT, 1.0, "mean ± 1 s.d.")
    if summary.threshold is not None:
        axes.axhspan(-summary.threshold, summary.threshold, color=LINE, alpha=0.5, zorder=0, linewidth=0)
    axes.set_xlim(-0.7, summary.channels - 0.3)
    axes.set_xlabel("output channel")
    axes.set_ylabel("weight")
    legend_below(area, axes, columns=3)
    title(axes, summary.layer)
    gone = int(np.isnan(new_low).sum()) * summary.group
    note(axes, f"{gone} of {summary.channels} channels removed" if gone else counted(summary.channels, "channel"))


def plot_posterior(area: FigureBase, summary: PosteriorSummary) -> None:
    """Draw each weight's mean with one and two deviations, by its signal-to-noise ratio."""
    axes: Axes = area.subplots()
    _, mean, deviation, after = summary.shown
    place = np.arange(len(mean))
    for gone, colour, label in ((after != 0, ACCENT, "kept"), (after == 0, BASE, "zero after")):
        if not gone.any():
            continue
        for times, alpha in ((2, 0.3), (1, 0.55)):
            low, high = mean - times * deviation, mean + times * deviation
            axes.bar(place[gone], (high - low)[gone], 0.9, low[gone], color=colour, alpha=alpha, linewidth=0)
        axes.plot(place[gone], mean[gone], "_", color=colour, markersize=3, label=label)
    ticks = np.linspace(0, len(place) - 1, min(7, len(place))).round().astype(int)
    axes.set_xticks(ticks, [f"{ratio:.2g}" for ratio in summary.signals[ticks]])
    axes.set_xlabel("signal-to-noise ratio, |mean| / s.d.")
    axes.set_ylabel("weight, ± 1 and 2 s.d.")
    legend_below(area, axes)
    title(axes, summary.layer)
    note(axes, f"{summary.kept:.1%} of {summary.count:,} weights kept")


def plot_spectrum(area: FigureBase, spectrum: Spectrum, *, log: bool = True) -> None:
    """Draw the singular values before and after, and the rank where those after end."""
    from workbench.measure.spectrum import energy_kept

    axes: Axes = area.subplots()
    place = np.arange(1, spectrum.full_rank + 1)
    axes.bar(place, spectrum.before, 0.86, color=BASE, alpha=0.55, label="before", linewidth=0)
    axes.bar(place, spectrum.after, 0.46, color=ACCENT, label="after", linewidth=0)
    if log and spectrum.before.max(initial=0) > 0:
        seen = spectrum.before[spectrum.before > spectrum.before[0] * 1e-4]
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.6 * float(seen[-1]))
    if spectrum.rank < spectrum.full_rank:
        label = f"rank {spectrum.rank:,} after"
        axes.axvline(spectrum.rank + 0.5, color=TEXT, linewidth=0.8, linestyle=(0, (4, 3)), label=label)
    axes.set_xlim(0.4, spectrum.full_rank + 0.6)
    axes.set_xlabel("rank")
    axes.set_ylabel("singular value")
    legend_below(area, axes, columns=3)
    title(axes, spectrum.layer)
    energy = energy_kept(spectrum.before)
    if energy[-1:] > 0:
        most = int(np.searchsorted(energy, 0.9)) + 1
        note(axes, f"90 % of the energy in {most:,} of {spectrum.full_rank:,}")


def describe(summary: WeightSummary) -> str:
    """Return in a few words what was done to the layer."""
    names: dict[float, str] = {16: "16-bit float", 32: "fp32"}
    bits = names.get(summary.bits or 32, f"{summary.bits or 32:g} bit")
    removed = f"{summary.removed:.1%} removed, " if summary.removed else ""
    return f"{removed}{summary.sparsity:.1%} zeros, {bits}".replace("%", " %")


def _levels(summary: WeightSummary) -> str:
    """Return what to call the values a weight can take: a quantizer's are evenly spaced, a codebook's are not."""
    gaps = np.diff(summary.grid)
    even = not len(gaps) or float(gaps.max() - gaps.min()) <= 0.02 * float(gaps.max())
    of = f", of one of {summary.grids:,} grids" if summary.grids > 1 else ""
    return f"{len(summary.grid)} {'quantizer' if even else 'codebook'} values{of}"


def _ranges(
    axes: Axes, place: Any, width: float, low: Any, high: Any, colour: str, alpha: float, label: str = ""
) -> None:
    axes.bar(place, high - low, width, bottom=low, color=colour, alpha=alpha, label=label or None, linewidth=0)
