"""The small network that judges filters, the gates that its judgements close, and the trials it learns from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..loop.objectives import Objective
from ..student import Student
from .base import Part

#: What a filter is described by; see ``FilterGates.features``.
FEATURES = 7
#: Trials before each step, and the share of a layer's filters that one closes.
TRIALS, PART = 2, 0.125
#: How fast the running mean of damages forgets.
FORGETS = 0.05
TINY = 1e-8


class Predictor(nn.Module):
    """Features ``(filters, FEATURES)`` → what the loss rises by without each filter, ``(filters,)``, in ``unit``s."""

    def __init__(self, hidden: int, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.first, self.second = nn.Linear(FEATURES, hidden), nn.Linear(hidden, 1)
        self.register_buffer("unit", torch.tensor(0.0))
        self.unit: Tensor

    def forward(self, features: Tensor) -> Tensor:
        """Return the damages."""
        damages: Tensor = self.second(torch.tanh(self.first(features))).squeeze(1)
        return damages

    @torch.no_grad()
    def in_units(self, damage: float) -> float:
        """Return a measured damage as a multiple of what damages are on average, which it moves."""
        before = float(self.unit)
        self.unit.fill_(abs(damage) if before == 0 else before + FORGETS * (abs(damage) - before))
        return damage / max(float(self.unit), TINY)


class FilterGates(nn.Module):
    """One gate for each filter of a layer: ``kept`` says which are open.

    ``depth`` is the layer's place in the model, 0 to 1; ``axis`` counts the filters in its weight. ``final`` says
    that the choice stays what it is.
    """

    def __init__(self, weight: Part, gamma: Part | None, predictor: Predictor, depth: float, axis: int) -> None:
        super().__init__()
        # in a tuple: parts of the student, not of this module
        self._read = (weight, gamma, predictor)
        self._depth, self.axis = depth, axis
        with torch.no_grad():
            count = weight().shape[axis]
        self.register_buffer("kept", torch.ones(count, dtype=torch.bool))
        self.register_buffer("final", torch.tensor(False))
        self.kept: Tensor
        self.final: Tensor

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
            _relative(size), _relative(factor), _relative(apart), (peak + TINY).log(), _rank(size),
            torch.full_like(size, self._depth), torch.full_like(size, math.log(len(rows)) / 8),
        ]  # fmt: skip
        return torch.stack(columns, 1)

    def damages(self) -> Tensor:
        """Return what the loss rises by without each filter, as the predictor has it."""
        damages: Tensor = self._read[2](self.features())
        return damages

    @contextmanager
    def without(self, closed: Tensor) -> Iterator[None]:
        """Close the filters numbered ``closed`` too for a while."""
        before = self.kept  # which gradients to come still read: it is put aside, not changed
        self.kept = before.clone()
        self.kept[closed] = False
        try:
            yield
        finally:
            self.kept = before


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
            kept = self._open(values).expand(values.shape).clone()
        return {**found, "": found[""] * kept, "kept": kept} if "" in found else {**found, "kept": kept}

    def _open(self, values: Tensor) -> Tensor:
        shape = [-1 if place == self.axis else 1 for place in range(values.ndim)]
        return self._gates[0].kept.view(shape)


def _relative(values: Tensor) -> Tensor:
    """Return the logarithm of values over their mean."""
    return ((values + TINY) / (values.mean() + TINY)).log()


def _rank(values: Tensor) -> Tensor:
    """Return each value's place among all, 0 to 1."""
    return values.argsort().argsort() / max(1, len(values) - 1)


@torch.no_grad()
def choose(gates: dict[str, FilterGates], ratio: float, floor: float) -> None:
    """Close the gates of the least damage over all layers, ``ratio`` of them; ``floor`` of each layer stay open."""
    damages, closable = [], []
    for gate in gates.values():
        found = gate.damages()
        free = torch.ones_like(found, dtype=torch.bool)
        free[found.argsort(descending=True, stable=True)[: max(1, math.ceil(floor * len(found)))]] = False
        damages.append(found)
        closable.append(free)
    every = torch.cat(closable)
    least = torch.cat(damages).masked_fill(~every, torch.inf).argsort(stable=True)
    kept = torch.ones(len(every), dtype=torch.bool)
    kept[least[: min(round(ratio * len(every)), int(every.sum()))]] = False
    for gate, part in zip(gates.values(), kept.split([len(found) for found in damages]), strict=True):
        gate.kept.copy_(part)


class Trials(Objective):
    """Another objective, beside which the predictor learns from trials on the same batch.

    A trial closes some filters of one layer for a moment. They are alike in a direction of chance among their
    features, so that what tells filters apart tells trials apart. By how much the loss rises, for each of them, is
    what the predictor's mean over them should be.
    """

    def __init__(self, inner: Objective) -> None:
        super().__init__()
        self.inner = inner
        self._gates: list[FilterGates] = []
        self._predictor: tuple[Predictor, ...] = ()

    def watch(self, student: Student) -> None:
        """Get ready to try the student's gates."""
        self.inner.watch(student)
        self._gates = [helper for helper in student.helpers.modules() if isinstance(helper, FilterGates)]
        self._predictor = tuple(helper for helper in student.helpers.modules() if isinstance(helper, Predictor))

    def loss(self, student: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Return the loss, and how far the predictor was from what the trials came to."""
        loss = self.inner.loss(student, images, labels)
        open_gates = [gate for gate in self._gates if not gate.final]
        if not (open_gates and torch.is_grad_enabled()):
            return loss
        with _resting(student):
            before = _mean_loss(student, images, labels)
            errors = [self._try(open_gates, student, images, labels, before) for _ in range(TRIALS)]
        return loss + torch.stack(errors).mean()

    def _try(
        self, gates: list[FilterGates], student: nn.Module, images: Tensor, labels: Tensor, before: float
    ) -> Tensor:
        """Close some filters of a layer; return the squared error of the damage predicted."""
        gate = gates[int(torch.randint(len(gates), ()))]
        closed = alike(gate)
        with gate.without(closed):
            risen = _mean_loss(student, images, labels) - before
        (predictor,) = self._predictor
        wanted = predictor.in_units(risen / len(closed))
        return (gate.damages()[closed].mean() - wanted).square()


def alike(gate: FilterGates) -> Tensor:
    """Return the numbers of some open filters of a layer that are alike in a direction of chance."""
    features = gate.features()
    features = (features - features.mean(0)) / (features.std(0, correction=0) + TINY)
    along = (features @ torch.randn(FEATURES)).masked_fill(~gate.kept, -torch.inf)
    count = max(1, min(round(PART * len(along)), int(gate.kept.sum())))
    return along.argsort(descending=True, stable=True)[:count]


@torch.no_grad()
def _mean_loss(student: nn.Module, images: Tensor, labels: Tensor) -> float:
    return float(F.cross_entropy(student(images), labels))


@contextmanager
def _resting(student: nn.Module) -> Iterator[None]:
    """Let no statistics follow and nothing be dropped by chance for a while."""
    before = [(module, module.training) for module in student.modules()]
    student.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training
