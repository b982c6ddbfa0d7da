"""The three headline figures as a matplotlib figure: number, interval and baseline of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..base.plots import ACCENT, BASE, LINE, MUTED, SOFT, in_bytes

#: How high in its panel the scale is drawn.
HIGH = 0.46

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

    from workbench.snapshot import Snapshot


def plot_scores(area: FigureBase, snapshot: Snapshot) -> None:
    """Draw accuracy, size and latency of ``snapshot`` beside one another."""
    accuracy, size, latency = area.subplots(1, 3)
    _accuracy(accuracy, snapshot)
    _size(size, snapshot)
    _latency(latency, snapshot)


def _accuracy(axes: Axes, snapshot: Snapshot) -> None:
    found, base = snapshot.score, snapshot.baseline.score
    title = "Agreement" if snapshot.agreement and not snapshot.accuracy else "Accuracy"
    if found is None:
        _panel(axes, title, "–", "not measured yet")
        return
    exact = found.kind == "exact"
    change = "" if base is None else _points(found.value - base.value)
    spread = "every image was run" if exact else f"± {(found.high - found.low) * 50:.1f} points at 95 % confidence"
    value = f"{found.value * 100:.{2 if exact else 1}f} %"
    _panel(axes, title, value, change, f"{found.kind}, {found.n:,} {found.split} images", spread)
    lowest = min(found.low, base.value if base else 1.0)
    floor = next((edge for edge in (0.8, 0.6, 0.4, 0.2) if lowest - 0.03 > edge), 0.0)
    _scale(axes, floor, 1.0, (f"{floor * 100:.0f} %", "100 %"))
    axes.plot([found.low, found.high], [HIGH, HIGH], color=SOFT, linewidth=5, solid_capstyle="round", zorder=2)
    _baseline(axes, base.value if base else None)
    axes.plot([found.value], [HIGH], "|", color=ACCENT, markersize=9, markeredgewidth=2.2, zorder=4)


def _size(axes: Axes, snapshot: Snapshot) -> None:
    found = snapshot.size
    if found is None:
        _panel(axes, "Size", "–", "not packed yet")
        return
    ratio = found.dense_fp32_bytes / max(1, found.bytes)
    change = "same as dense" if ratio < 1.05 else f"{ratio:.{1 if ratio < 10 else 0}f}× smaller"
    others = f"dense fp32 {in_bytes(found.dense_fp32_bytes)}"
    if found.runtime_bytes:
        others += f", ONNX file {in_bytes(found.runtime_bytes)}"
    _panel(axes, "Size", in_bytes(found.bytes), change, f"{found.kind}, packed file", others)
    _scale(axes, 0, found.dense_fp32_bytes, ("0", "dense"))
    axes.plot([0, found.bytes], [HIGH, HIGH], color=ACCENT, linewidth=3, solid_capstyle="butt", zorder=3)
    _baseline(axes, found.dense_fp32_bytes)


def _latency(axes: Axes, snapshot: Snapshot) -> None:
    found, base = snapshot.measured_latency or snapshot.latency, snapshot.baseline.latency
    if found is None:
        _panel(axes, "Latency", "–", "not estimated yet")
        return
    change = "" if base is None else _speed(base.ms / found.ms)
    digits = 3 if found.ms < 0.1 else 2 if found.ms < 10 else 1
    spread = f"{found.kind}, {found.low:.{digits}f} to {found.high:.{digits}f} ms"
    value = f"{found.ms:.{digits}f} ms"
    _panel(axes, "Latency", value, change, spread, f"batch {found.batch}, {found.device}")
    top = 1.08 * max(found.high, found.ms, base.ms if base else 0)
    _scale(axes, 0, top, ("0", f"{top:.2g} ms"))
    axes.plot([0, found.ms], [HIGH, HIGH], color=ACCENT, linewidth=3, solid_capstyle="butt", zorder=3)
    axes.plot([found.low, found.high], [HIGH, HIGH], color=SOFT, linewidth=5, solid_capstyle="round", zorder=2)
    _baseline(axes, base.ms if base else None)


def _panel(axes: Axes, name: str, value: str, change: str, *details: str) -> None:
    axes.set_axis_off()
    axes.set_ylim(0, 1)
    _write(axes, 0, 1.0, name, fontsize=7.5, fontweight="bold", va="top")
    _write(axes, 0, 0.84, value, fontsize=14, fontweight="bold", va="top")
    _write(axes, 0.97, 0.74, change, fontsize=7, color=MUTED, va="top", ha="right")
    _write(axes, 0, 0.0, "\n".join(details), fontsize=6, color=MUTED, va="bottom", linespacing=1.35)


def _write(axes: Axes, x: float, y: float, text: str, **style: Any) -> None:
    # out of the layout, so that long words do not make the panels unequal
    axes.text(x, y, text, transform=axes.transAxes, in_layout=False, **style)


def _scale(axes: Axes, low: float, high: float, ends: tuple[str, str]) -> None:
    axes.set_xlim(low, low + (high - low) / 0.97)
    axes.plot([low, high], [HIGH, HIGH], color=LINE, linewidth=3, zorder=1, solid_capstyle="butt")
    for at, text, side in ((0, ends[0], "left"), (0.97, ends[1], "right")):
        _write(axes, at, HIGH - 0.06, text, fontsize=5.5, color=MUTED, va="top", ha=side)


def _baseline(axes: Axes, at: float | None) -> None:
    if at is not None:
        axes.plot([at], [HIGH], "|", color=BASE, markersize=11, markeredgewidth=1.2, zorder=3.5)


def _points(change: float) -> str:
    if abs(change) < 5e-5:
        return "same as dense"
    return f"{'▼' if change < 0 else '▲'} {abs(change) * 100:.2f} points"


def _speed(gain: float) -> str:
    if abs(gain - 1) < 0.03:
        return "same as dense"
    return f"{gain:.1f}× faster" if gain > 1 else f"{1 / gain:.1f}× slower"
