"""What measurements tell about a machine: from a population of machines to this one, by Bayes' rule.

Before anything is measured on a machine, its efficiencies are those of its population: a normal
distribution of their logarithms. Each measurement of a network (an anchor), or of some of its kernels (a
line of a profile), narrows it; the posterior is found by Gauss and Newton's method and taken as normal
around its mode (Laplace). Anchors in one number type also tell about the other, as far as the population
says that the two go together. A prediction's interval holds both: what is not known of the machine, and how
far networks stray from the model even on machines that are known well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .roofline import DTYPES, TERMS, Dtype, Machine, log_time
from .work import Array, Work

#: Standard deviations to either side that hold 90 % of a normal distribution.
_NINETY = 1.645
_STEPS = 20
#: By how much another runtime differs, in logarithms: as a whole, and in each term.
_WHOLE, _EACH = 0.5, 0.3


@dataclass(frozen=True)
class Observation:
    """Milliseconds measured for some work. ``noise``: their relative standard error."""

    work: Work
    dtype: Dtype
    ms: float
    noise: float = 0.02


@dataclass(frozen=True)
class Belief:
    """What is held of a machine: mean and covariance of both number types' ``TERMS``, one after the other.

    ``stray``: relative deviation of a network from the model, for each number type.
    """

    mean: Array
    covariance: Array
    stray: Mapping[Dtype, float]

    def elsewhere(self) -> Belief:
        """Return what is held when another runtime runs there than the one that was measured.

        It may be faster or slower as a whole (by a factor of 1.6, one standard deviation) and in each term.
        """
        other = np.full(self.covariance.shape, _WHOLE**2)
        np.fill_diagonal(other, _WHOLE**2 + _EACH**2)
        return Belief(self.mean, np.add(self.covariance, other), self.stray)


@dataclass(frozen=True)
class Forecast:
    """Milliseconds with their 90 % interval."""

    ms: float
    low: float
    high: float

    @property
    def width(self) -> float:
        """By what factor the interval reaches beyond the figure."""
        return math.sqrt(self.high / self.low)


def calibrate(machine: Machine, belief: Belief, observations: Sequence[Observation]) -> Belief:
    """Return what is believed of ``machine`` after ``observations``."""
    if not observations:
        return belief
    precision = np.linalg.inv(belief.covariance)
    targets = np.log([item.ms for item in observations])
    weights = np.array([1 / (belief.stray[item.dtype] ** 2 + item.noise**2) for item in observations])
    u = belief.mean.copy()
    for _ in range(_STEPS):
        found, slopes = _model(machine, observations, u)
        hessian = precision + slopes.T @ (weights[:, None] * slopes)
        step = np.linalg.solve(hessian, slopes.T @ (weights * (targets - found)) - precision @ (u - belief.mean))
        u += np.clip(step, -1, 1)  # far from the mode, a full step may overshoot
        if np.abs(step).max() < 1e-5:
            break
    _, slopes = _model(machine, observations, u)
    covariance: Array = np.linalg.inv(precision + slopes.T @ (weights[:, None] * slopes)).astype(np.float64)
    return Belief(u, covariance, belief.stray)


def forecast(machine: Machine, belief: Belief, work: Work, dtype: Dtype) -> Forecast:
    """Return how long ``work`` takes on ``machine``: the median, and the 90 % interval."""
    middle, slope = log_time(work, machine, dtype, part(belief.mean, dtype))
    columns = place(dtype)
    variance = slope @ belief.covariance[columns, columns] @ slope + belief.stray[dtype] ** 2
    reach = _NINETY * math.sqrt(variance)
    return Forecast(math.exp(middle), math.exp(middle - reach), math.exp(middle + reach))


def forecast_ratio(
    machine: Machine, belief: Belief, before: tuple[Work, Dtype], after: tuple[Work, Dtype], shared: float = 0.5
) -> Forecast:
    """Return time after ÷ time before: what is not known of the machine cancels where both depend on it alike.

    ``shared``: the part of a network's straying that its compressed form has too.
    """
    found, slopes, stray = [], [], []
    for work, dtype in (before, after):
        middle, slope = log_time(work, machine, dtype, part(belief.mean, dtype))
        whole = np.zeros(len(belief.mean))
        whole[place(dtype)] = slope
        found.append(middle)
        slopes.append(whole)
        stray.append(belief.stray[dtype])
    difference = slopes[1] - slopes[0]
    variance = float(difference @ belief.covariance @ difference) + (1 - shared) * (stray[0] ** 2 + stray[1] ** 2)
    middle, reach = found[1] - found[0], 0.0 if before == after else _NINETY * math.sqrt(variance)
    return Forecast(math.exp(middle), math.exp(middle - reach), math.exp(middle + reach))


def place(dtype: Dtype) -> slice:
    """Return where a number type's terms lie among both types'."""
    start = DTYPES.index(dtype) * len(TERMS)
    return slice(start, start + len(TERMS))


def part(u: Array, dtype: Dtype) -> Array:
    """Return a number type's terms."""
    return u[place(dtype)]


def _model(machine: Machine, observations: Sequence[Observation], u: Array) -> tuple[Array, Array]:
    found = np.zeros(len(observations))
    slopes = np.zeros((len(observations), len(u)))
    for index, item in enumerate(observations):
        found[index], slopes[index, place(item.dtype)] = log_time(item.work, machine, item.dtype, part(u, item.dtype))
    return found, slopes
