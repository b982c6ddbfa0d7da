"""Was the machine quiet enough to be believed? Noise is told, never averaged away.

Four things spoil a median: other work on the same cores, a level that drifts (heat, frequency), two levels
between which runs jump (core types, page sizes, a neighbour), and plain spread. Each is looked for in the
figures it would show in, and said in a sentence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: What is told: share of the cores' time that others took; change over the measurement, at this
#: significance; middle half of the rounds; how far apart two levels are, and the share of the smaller.
LOAD, DRIFT, SIGNIFICANCE, SPREAD, STEP, MINOR = 0.05, 0.05, 0.01, 0.10, 0.08, 0.10
#: Ashman's D (Ashman, Bird & Zepf 1994): the distance of two levels over their width. Cutting a normal
#: distribution gives 2.7, a uniform one 3.5.
SEPARATE = 4.0


@dataclass(frozen=True)
class Noise:
    """What was seen. ``load``: share of the cores' time that other work took, None where unknown.

    ``drift``: relative change from the first to the last round; ``spread``: of the rounds' middle half, as
    a share of the median; ``modes``: two levels in milliseconds where there are two; ``switches``: times a
    second that the worker was pushed off its core. ``findings`` say in words what is wrong.
    """

    load: float | None
    drift: float
    spread: float
    modes: tuple[float, float] | None
    switches: float
    findings: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """``quiet`` or ``noisy``."""
        return "noisy" if self.findings else "quiet"

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {"verdict": self.verdict, **asdict(self)}


def judge(visits: Sequence[Sequence[float]], load: float | None, switches: float) -> Noise:
    """Judge the run times of a measurement, ``visits`` in order, in nanoseconds."""
    rounds = np.array([np.median(times) for times in visits])
    low, middle, high = np.percentile(rounds, (25, 50, 75))
    spread = float((high - low) / middle)
    drift, certain = _drift(rounds)
    modes = find_modes(np.concatenate([np.asarray(times, float) for times in visits]) / 1e6)
    findings = []
    if load is not None and load > LOAD:
        findings.append(f"Other work took {load:.0%} of the cores' time.")
    if certain and abs(drift) > DRIFT:
        findings.append(f"Runs became {abs(drift):.0%} {'slower' if drift > 0 else 'faster'} during the measurement.")
    if modes is not None:
        findings.append(f"Runs jump between two levels, {modes[0]:.3g} ms and {modes[1]:.3g} ms.")
    if spread > SPREAD:
        findings.append(f"The middle half of the rounds spreads by {spread:.0%}.")
    return Noise(load, drift, spread, modes, switches, tuple(findings))


def find_modes(times: NDArray[np.float64]) -> tuple[float, float] | None:
    """Return the two levels of ``times`` where they are clearly two, None otherwise.

    The cut is Otsu's (least variance within the parts), on logarithms, with the longest hundredth left out.
    """
    values = np.log(np.sort(times))[: max(2, math.ceil(0.99 * len(times)))]
    n = len(values)
    if n < 20:
        return None
    counts = np.arange(1, n)
    sums = np.cumsum(values)[:-1]
    below, above = sums / counts, (values.sum() - sums) / (n - counts)
    cut = int(np.argmax(counts * (n - counts) * (above - below) ** 2)) + 1
    lower, upper = values[:cut], values[cut:]
    width = math.sqrt((lower.var() + upper.var()) / 2)
    distance = float(upper.mean() - lower.mean())
    if min(len(lower), len(upper)) < MINOR * n or distance < STEP or distance < SEPARATE * width:
        return None
    return float(np.exp(np.median(lower))), float(np.exp(np.median(upper)))


def _drift(rounds: NDArray[np.float64]) -> tuple[float, bool]:
    """Return the relative change along Theil and Sen's line, and whether Kendall's test believes in one."""
    from scipy.stats import kendalltau, theilslopes

    if len(rounds) < 6 or np.ptp(rounds) == 0:
        return 0.0, False
    order = np.arange(len(rounds))
    slope = float(theilslopes(rounds, order)[0])
    change = slope * (len(rounds) - 1) / float(np.median(rounds))
    return change, bool(kendalltau(order, rounds).pvalue < SIGNIFICANCE)
