"""The small network that judges filters, and the gates that its judgements open and close."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from .constraints import Part
from .gradients import straight

#: Temperature of the drawn decisions.
HEAT = 2 / 3
#: What a filter is described by; see ``FilterGates.features``.
FEATURES = 7
#: Log-odds of a filter to be kept before the network has learned anything.
START = 2.0
TINY = 1e-8


class Predictor(nn.Module):
    """Features ``(filters, FEATURES)`` → log-odds of keeping each filter ``(filters,)``."""

    def __init__(self, hidden: int, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.first, self.second = nn.Linear(FEATURES, hidden), nn.Linear(hidden, 1)
        nn.init.constant_(self.second.bias, START)

    def forward(self, features: Tensor) -> Tensor:
        """Return the log-odds."""
        odds: Tensor = self.second(torch.tanh(self.first(features))).squeeze(1)
        return odds


class FilterGates(nn.Module):
    """One gate for each filter of a layer: drawn in training, by the odds alone otherwise, decided in the end.

    ``depth`` is the layer's place in the model, 0 to 1; ``axis`` counts the filters in its weight.
    """

    def __init__(self, weight: Part, gamma: Part | None, predictor: Predictor, depth: float, axis: int) -> None:
        super().__init__()
        # in a tuple: parts of the student, not of this module
        self._read = (weight, gamma, predictor)
        self._depth, self.axis = depth, axis
        with torch.no_grad():
            count = weight().shape[axis]
        self.register_buffer("noise", torch.zeros(count))
        self.register_buffer("decided", torch.full((count,), -1.0))
        self.noise: Tensor
        self.decided: Tensor

    @torch.no_grad()
    def features(self) -> Tensor:
        """Return what is seen of each filter, ``(filters, FEATURES)``."""
        weight, gamma, _ = self._read
        rows = weight().movedim(self.axis, 0).flatten(1)
        size = rows.norm(dim=1)
        apart = torch.cdist(rows, rows).fill_diagonal_(torch.inf).min(1).values if len(rows) > 1 else size
        factor = torch.ones(len(rows)) if gamma is None else gamma().abs()
        peak = rows.abs().amax(1) / (rows.abs().mean(1) + TINY)
        columns = [
            _relative(size), _relative(factor), _relative(apart), peak.log(), _rank(size),
            torch.full_like(size, self._depth), torch.full_like(size, math.log(len(rows)) / 8),
        ]  # fmt: skip
        return torch.stack(columns, 1)

    def odds(self) -> Tensor:
        """Return the log-odds of keeping each filter."""
        odds: Tensor = self._read[2](self.features())
        return odds

    @torch.no_grad()
    def draw(self) -> None:
        """Draw the chance of the next step's decisions."""
        chance = torch.rand_like(self.noise).clamp(1e-6, 1 - 1e-6)
        self.noise.copy_(chance.log() - (-chance).log1p())

    def open(self, training: bool) -> Tensor:
        """Return the gates, 0 or 1."""
        if float(self.decided[0]) >= 0:
            return self.decided
        odds = self.odds()
        soft = torch.sigmoid((odds + self.noise) / HEAT) if training else torch.sigmoid(odds)
        return straight(soft, (soft > 0.5).float())


class BehindGate(Part):
    """A tensor with an entry or a filter for each gate, zero where the gate is closed."""

    def __init__(self, inner: Part, gates: FilterGates, axis: int) -> None:
        super().__init__()
        self.inner, self.axis = inner, axis
        self._gates = (gates,)

    def forward(self) -> Tensor:
        """Return the values behind the gates."""
        values = self.inner()
        return values * self._open(values)

    def learned(self) -> dict[str, Tensor]:
        """Return what the tensor learned, and which values are kept where it is a weight."""
        found = self.inner.learned()
        with torch.no_grad():
            values = self.inner()
            kept = (self._open(values) > 0).expand(values.shape).clone()
        return {**found, "": found[""] * kept, "kept": kept} if "" in found else {**found, "kept": kept}

    def _open(self, values: Tensor) -> Tensor:
        shape = [-1 if place == self.axis else 1 for place in range(values.ndim)]
        return self._gates[0].open(self.training).view(shape)


def _relative(values: Tensor) -> Tensor:
    """Return the logarithm of values over their mean."""
    return ((values + TINY) / (values.mean() + TINY)).log()


def _rank(values: Tensor) -> Tensor:
    """Return each value's place among all, 0 to 1."""
    return values.argsort().argsort() / max(1, len(values) - 1)


def decide(gates: dict[str, FilterGates], ratio: float) -> None:
    """Drop the filters of the lowest odds over all of ``gates``, ``ratio`` of them; each layer keeps one at least."""
    with torch.no_grad():
        odds = {name: gate.odds() for name, gate in gates.items()}
    best = {name: int(values.argmax()) for name, values in odds.items()}
    entries: list[Any] = [
        (float(value), name, place)
        for name, values in odds.items() for place, value in enumerate(values) if place != best[name]
    ]  # fmt: skip
    total = sum(len(values) for values in odds.values())
    for gate in gates.values():
        gate.decided.fill_(1.0)
    for _, name, place in sorted(entries)[: round(ratio * total)]:
        gates[name].decided[place] = 0.0
