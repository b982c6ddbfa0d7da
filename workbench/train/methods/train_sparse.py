"""Dynamic sparse training; see ``workbench.techniques.trained.train_sparse``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from workbench.techniques.trained import TrainSparseSettings

from ..constraints.base import Part
from ..constraints.gates import Gated, forget_momentum, free_values, gates_of, largest
from ..method import Learning, Moment
from .taught import Taught

if TYPE_CHECKING:
    from ..student import Student


class TrainSparse(Taught[TrainSparseSettings]):
    """Exchanges weights while training."""

    def constrain(self, tensor: Learning) -> Part | None:
        """Return the tensor with a gate, where it is the weight of a chosen layer."""
        inner = super().constrain(tensor)
        return inner if inner is None or tensor.settings is None else Gated(inner, tensor.settings)

    def begin(self, student: Student) -> None:
        """Choose the first mask by chance."""
        if self.settings.restart:
            student.restart(self.settings.seed)
        gates = gates_of(student)
        densities = self._densities({name: tuple(gate.kept.shape) for name, gate in gates.items()})
        for place, (name, gate) in enumerate(gates.items()):
            count = round(densities[name] * gate.kept.numel())
            chance = _chance(gate.kept, self.settings.seed, place).masked_fill(~gate.possible, -torch.inf)
            gate.kept.copy_(largest(chance, min(count, int(gate.possible.sum()))))

    def before_step(self, student: Student, optimizer: Any, moment: Moment) -> None:
        """Ask for the gradient of all weights, where they are about to be exchanged."""
        if self._exchanges(moment) and self.settings.grow == "gradient":
            for gate in gates_of(student).values():
                gate.watch()

    def after_backward(self, student: Student, optimizer: Any, moment: Moment) -> None:
        """Exchange weights."""
        if not self._exchanges(moment):
            return
        gates = gates_of(student)
        share = self.settings.swap / 2 * (1 + math.cos(math.pi * moment.share / self.settings.end))
        for place, gate in enumerate(gates.values()):
            gradient = gate.gradient(student.loss_scale)
            wish = _chance(gate.kept, self.settings.seed + moment.step, place) if gradient is None else gradient.abs()
            _exchange(gate, wish, share)
        forget_momentum(optimizer, gates)

    def finished(self, moment: Moment) -> bool:
        """Whether it has begun: what was there before was not sparse."""
        return moment.step > 0

    def _exchanges(self, moment: Moment) -> bool:
        return 0 < moment.step < self.settings.end * moment.total and moment.step % self.settings.every == 0

    def _densities(self, shapes: dict[str, tuple[int, ...]]) -> dict[str, float]:
        """Return the share of weights that each tensor keeps; in all, 1 - ratio."""
        wanted = 1 - self.settings.ratio
        if self.settings.density == "uniform":
            return dict.fromkeys(shapes, wanted)
        raw = {name: sum(shape) / math.prod(shape) for name, shape in shapes.items()}
        full: set[str] = set()
        while True:
            left = sum(math.prod(shape) for name, shape in shapes.items() if name not in full)
            budget = wanted * sum(map(math.prod, shapes.values())) - sum(math.prod(shapes[name]) for name in full)
            weight = sum(raw[name] * math.prod(shape) for name, shape in shapes.items() if name not in full)
            scale = budget / weight if left else 0.0
            more = {name for name in shapes if name not in full and raw[name] * scale > 1}
            if not more:
                return {name: 1.0 if name in full else raw[name] * scale for name in shapes}
            full |= more


@torch.no_grad()
def _exchange(gate: Gated, wish: Tensor, share: float) -> None:
    """Drop the smallest ``share`` of the kept weights, and let as many come back where ``wish`` is highest."""
    count = int(share * int(gate.kept.sum()))
    missing = ~gate.kept
    count = min(count, int((missing & gate.possible).sum()))
    if count == 0:
        return
    smallest = largest(gate.magnitudes().neg().masked_fill(missing, -torch.inf), count)
    grown = largest(wish.masked_fill(gate.kept | ~gate.possible, -torch.inf), count)
    values = free_values(gate)
    if values is not None:
        values.masked_fill_(grown | smallest, 0.0)
    gate.kept.copy_((gate.kept & ~smallest) | grown)


def _chance(like: Tensor, seed: int, place: int) -> Tensor:
    generator = torch.Generator().manual_seed((seed * 1_000_003 + place) % 2**62)
    return torch.rand(like.shape, generator=generator)
