"""How machines of a family differ from their data sheets: learnt from those that were measured.

The logarithms of a machine's efficiencies are taken as normal around a mean that depends on its traits. Mean,
covariance and the networks' straying are found by expectation and maximization (empirical Bayes): given the
population, each machine's posterior; given the posteriors, the population. ``populations.json`` holds what
came out of all published measurements; ``python -m tests.bench.devices --learn`` makes it anew.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .calibrate import Belief, Observation, calibrate, part, place
from .roofline import DTYPES, TERMS, Dtype, Machine, log_time
from .work import Array

FILE = Path(__file__).parent / "populations.json"
#: Weight of the prior on the covariance, in machines, and its variance: a factor of 1.6 either way.
_PRIOR, _VARIANCE = 3.0, 0.25
_ROUNDS = 6
#: Variance by which efficiencies in a number type that was never measured differ from the other's.
_APART = 0.2
#: Machines needed before a trait is given a say.
_ENOUGH = 24


@dataclass(frozen=True)
class Population:
    """Machines of a family: ``coefficients`` of the traits (4 × both types' terms), covariance, straying."""

    coefficients: Array
    covariance: Array
    stray: dict[Dtype, float]

    def belief(self, machine: Machine) -> Belief:
        """Return what is held of a machine of which only the data sheet is known."""
        return Belief(machine.traits @ self.coefficients, self.covariance, self.stray)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "coefficients": self.coefficients.round(5).tolist(), "covariance": self.covariance.round(6).tolist(),
            "stray": {name: round(value, 5) for name, value in self.stray.items()},
        }  # fmt: skip


Case = tuple[Machine, Sequence[Observation]]


def learn(cases: Sequence[Case], rounds: int = _ROUNDS) -> Population:
    """Return the population of the machines in ``cases``, each with what was measured on it."""
    size = 2 * len(TERMS)
    start = np.full(size, 1.0)  # data sheets promise about three times what kernels reach
    start[[len(TERMS) - 1, size - 1]] = 0.0
    coefficients = np.zeros((4, size))
    coefficients[0] = start
    found = Population(coefficients, 0.5 * np.eye(size), {"float": 0.15, "int8": 0.15})
    traits = np.array([machine.traits for machine, _ in cases])
    ridge = np.diag([0.1, *[1.0 if len(cases) >= _ENOUGH else 1e6] * 3])
    for _ in range(rounds):
        beliefs = [calibrate(machine, found.belief(machine), seen) for machine, seen in cases]
        means = np.array([belief.mean for belief in beliefs])
        coefficients = np.linalg.solve(
            traits.T @ traits + ridge, traits.T @ means + 0.1 * np.outer(np.eye(4)[0], start)
        )
        apart = means - traits @ coefficients
        scatter = apart.T @ apart + sum(belief.covariance for belief in beliefs) + _PRIOR * _VARIANCE * np.eye(size)
        stray = {dtype: _stray(cases, beliefs, dtype, found.stray[dtype]) for dtype in DTYPES}
        found = Population(coefficients, scatter / (len(cases) + _PRIOR), stray)
    return _completed(found, {item.dtype for _, seen in cases for item in seen})


def _completed(found: Population, measured: set[Dtype]) -> Population:
    """Let a number type in which nothing was measured resemble the other, less surely."""
    missing = [dtype for dtype in DTYPES if dtype not in measured]
    if len(missing) != 1:
        return found
    here, there = place(missing[0]), place(next(iter(measured)))
    coefficients, covariance, stray = found.coefficients.copy(), found.covariance.copy(), dict(found.stray)
    coefficients[:, here] = coefficients[:, there]
    known = covariance[there, there]
    covariance[here, here] = known + _APART * np.eye(len(TERMS))
    covariance[here, there] = covariance[there, here] = known
    stray[missing[0]] = found.stray[next(iter(measured))]
    return Population(coefficients, covariance, stray)


def _stray(cases: Sequence[Case], beliefs: Sequence[Belief], dtype: Dtype, before: float) -> float:
    """Return the root of the expected square of what is left over; as it was where nothing was measured."""
    squares, count = 0.0, 0
    for (machine, seen), belief in zip(cases, beliefs, strict=True):
        columns = place(dtype)
        for item in seen:
            if item.dtype == dtype:
                middle, slope = log_time(item.work, machine, dtype, part(belief.mean, dtype))
                squares += (np.log(item.ms) - middle) ** 2 + slope @ belief.covariance[columns, columns] @ slope
                count += 1
    return float(np.sqrt(squares / count)) if count else before


@functools.cache
def populations() -> dict[str, Population]:
    """Return family → population, as shipped."""
    return {name: _read(entry) for name, entry in json.loads(FILE.read_text()).items()}


def _read(entry: dict[str, Any]) -> Population:
    return Population(np.array(entry["coefficients"]), np.array(entry["covariance"]), entry["stray"])


def learn_all() -> dict[str, Population]:
    """Learn every family from the published measurements."""
    from .published import configurations

    families: dict[str, list[Case]] = {}
    for entry in configurations().values():
        families.setdefault(entry.machine.family, []).append((entry.machine, entry.observations()))
    return {name: learn(cases) for name, cases in families.items()}
