"""The trade-off as a figure for a paper: the settings tried, their Pareto front, and the dense model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from workbench.measure.pareto import pareto_front

from ..base import plots
from .trials import Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from workbench.snapshot import Snapshot

Floats = NDArray[np.float64]


def _or_nan(value: float | None) -> float:
    return nan if value is None else value


@dataclass(frozen=True)
class Measure:
    """A figure as an axis: its label, how it is read, and ``scale``, which is what its numbers are shown in."""

    label: str
    higher: bool
    scale: float
    of_trial: Callable[[Trial], float]
    of_baseline: Callable[[Snapshot], float]


MEASURES = {
    "accuracy": Measure(
        "Accuracy (%)", True, 100, lambda trial: trial.score.value,
        lambda snapshot: snapshot.baseline.score.value if snapshot.baseline.score else nan,
    ),
    "size": Measure(
        "Size of the packed file (kB)", False, 1e-3, lambda trial: trial.bytes,
        lambda snapshot: snapshot.baseline.size.bytes if snapshot.baseline.size else nan,
    ),
    "latency": Measure(
        "Predicted latency (ms)", False, 1, lambda trial: trial.latency.ms if trial.latency else nan,
        lambda snapshot: snapshot.baseline.latency.ms if snapshot.baseline.latency else nan,
    ),
    "runtime": Measure(
        "Size of the runtime's file (kB)", False, 1e-3, lambda trial: _or_nan(trial.runtime_bytes),
        lambda snapshot: _or_nan(snapshot.baseline.size.runtime_bytes) if snapshot.baseline.size else nan,
    ),
    "agreement": Measure("Same answer as dense (%)", True, 100, lambda trial: _or_nan(trial.agreement), lambda _: 1.0),
    "loss": Measure(
        "Loss (cross-entropy, nats)", False, 1, lambda trial: _or_nan(trial.loss),
        lambda snapshot: snapshot.baseline.loss.value if snapshot.baseline.loss else nan,
    ),
}  # fmt: skip
#: Figures drawn on a logarithmic scale where one is wanted.
SCALED = ("size", "latency", "runtime")


def draw_tradeoff(
    axes: Axes, trials: Sequence[Trial], snapshot: Snapshot, *, x: str = "size", y: str = "accuracy", log: bool = True
) -> None:
    """Draw ``trials`` on ``axes``: exact ones filled, sampled ones hollow with their 95 % interval.

    The front is of the exact settings only; between two of them it shows what is surely reached.
    """
    across, up = MEASURES[x], MEASURES[y]
    exact = [trial for trial in trials if trial.exact]
    sampled = [trial for trial in trials if not trial.exact]
    xs, ys = _values(exact, across), _values(exact, up)
    axes.plot(xs, ys, "o", ms=2.6, mew=0, color=plots.ACCENT, alpha=0.45, label="measured", zorder=2)
    if sampled:
        _draw_sampled(axes, sampled, x, y)
    front = pareto_front(xs, ys, higher=(across.higher, up.higher))
    axes.plot(
        xs[front], ys[front], "o-", ms=3.4, mew=0.5, mec="white", lw=1, color=plots.ACCENT, label="Pareto front",
        drawstyle="steps-pre" if across.higher else "steps-post", zorder=3,
    )  # fmt: skip
    dense = across.of_baseline(snapshot) * across.scale, up.of_baseline(snapshot) * up.scale
    axes.plot(
        *([value] for value in dense), "D", ms=4.5, mew=0.5, mec="white", color=plots.MUTED, label="dense", zorder=4
    )
    _mark_present(axes, snapshot, trials, across, up)
    axes.set(xlabel=_label(x, snapshot), ylabel=_label(y, snapshot))
    _scale(axes, log, x, y)
    axes.grid(True, which="major", color=plots.LINE, lw=0.5)
    axes.set_axisbelow(True)
    axes.legend(loc="best", handlelength=1.4)


def _label(name: str, snapshot: Snapshot) -> str:
    """Return what an axis says; without labels the score is the agreement."""
    baseline = snapshot.baseline
    unlabelled = baseline.accuracy is None and baseline.agreement is not None
    return MEASURES["agreement" if name == "accuracy" and unlabelled else name].label


def _draw_sampled(axes: Axes, sampled: Sequence[Trial], x: str, y: str) -> None:
    def errors(name: str) -> Floats | None:
        if name != "accuracy":
            return None
        spans = [(t.score.value - t.score.low, t.score.high - t.score.value) for t in sampled]
        return np.maximum(np.array(spans, np.float64).T, 0) * 100

    axes.errorbar(
        _values(sampled, MEASURES[x]), _values(sampled, MEASURES[y]), xerr=errors(x), yerr=errors(y), fmt="o", ms=2.8,
        mew=0.7, mfc="white", color=plots.ACCENT, elinewidth=0.5, alpha=0.7, label="sampled, 95 %", zorder=1,
    )  # fmt: skip


def _mark_present(axes: Axes, snapshot: Snapshot, trials: Sequence[Trial], across: Measure, up: Measure) -> None:
    present = [trial for trial in trials if trial.recipe_hash == snapshot.recipe_hash]
    if present and snapshot.recipe:
        axes.plot(
            _values(present, across), _values(present, up), "o", ms=8, mew=1, mfc="none", color=plots.ACCENT,
            label="present", zorder=5,
        )  # fmt: skip


def _scale(axes: Axes, log: bool, x: str, y: str) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    for name, axis in ((x, "x"), (y, "y")):
        if not log or name not in SCALED:
            continue
        axes.set(**{f"{axis}scale": "log"})
        ticks = axes.xaxis if axis == "x" else axes.yaxis
        ticks.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ticks.set_major_formatter(StrMethodFormatter("{x:g}"))
        ticks.set_minor_formatter(NullFormatter())


def _values(trials: Sequence[Trial], measure: Measure) -> Floats:
    return np.array([measure.of_trial(trial) for trial in trials], np.float64) * measure.scale
