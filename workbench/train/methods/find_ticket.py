"""Lottery tickets; see ``workbench.techniques.trained.find_ticket``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from workbench.techniques.trained import FindTicketSettings

from ..constraints.base import Part
from ..constraints.gates import Gated, forget_momentum, free_values, gates_of, keep_best
from ..method import Learning, Moment, cosine
from .taught import Taught

if TYPE_CHECKING:
    from ..student import Student

#: Added to the seed for the control's first weights.
OTHER = 104_729


class Rewinding(Gated):
    """A gated tensor that remembers early values."""

    def __init__(self, inner: Part, layer: Any = None) -> None:
        super().__init__(inner, layer)
        values = free_values(self)
        self.register_buffer("early", torch.empty(0) if values is None else values.detach().clone())
        self.early: Tensor

    def remember(self) -> None:
        """Keep the present values."""
        values = free_values(self)
        if values is not None:
            self.early.copy_(values.detach())

    @torch.no_grad()
    def rewind(self) -> None:
        """Go back to the values that were kept."""
        values = free_values(self)
        if values is not None:
            values.copy_(self.early)


class FindTicket(Taught[FindTicketSettings]):
    """Rounds of training, pruning and going back; the last round trains the ticket."""

    @property
    def epochs(self) -> int:
        """Passes in all rounds."""
        return self.settings.passes

    def constrain(self, tensor: Learning) -> Part | None:
        """Return the tensor with early values; weights of chosen layers can be pruned, the others only go back."""
        inner = super().constrain(tensor)
        return inner if inner is None else Rewinding(inner, tensor.settings)

    def begin(self, student: Student) -> None:
        """Begin with new weights."""
        if self.settings.restart:
            student.restart(self.settings.seed)
        _remember(student)

    def pace(self, moment: Moment) -> float:
        """Return the share of the highest step size: every round has a schedule of its own."""
        each = self._each(moment)
        return 1.0 if self.settings.schedule == "constant" else cosine(moment.step % each, each)

    def before_step(self, student: Student, optimizer: Any, moment: Moment) -> None:
        """Remember early in the first round; prune and go back at the end of each but the last."""
        each = self._each(moment)
        if moment.step == round(self.settings.rewind * (each - 1)):
            _remember(student)
        if moment.step and moment.step % each == 0:
            self._turn(student, moment.step // each)
            forget_momentum(optimizer)

    def finished(self, moment: Moment) -> bool:
        """Whether the ticket itself is being trained."""
        return moment.step > self.settings.rounds * self._each(moment)

    def _each(self, moment: Moment) -> int:
        return self.settings.epochs * moment.each

    def _turn(self, student: Student, done: int) -> None:
        gates = {name: gate for name, gate in gates_of(student).items() if gate.layer is not None}
        left = (1 - self.settings.ratio) ** (done / self.settings.rounds)
        keep_best({name: gate.magnitudes() for name, gate in gates.items()}, gates, 1 - left)
        if done == self.settings.rounds and self.settings.last == "random":
            student.restart(self.settings.seed + OTHER)
            return
        for gate in gates_of(student).values():
            assert isinstance(gate, Rewinding)
            gate.rewind()


def _remember(student: Student) -> None:
    for gate in gates_of(student).values():
        assert isinstance(gate, Rewinding)
        gate.remember()
