"""Gradual pruning; see ``workbench.techniques.trained.prune_gradually``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from workbench.techniques.trained import PruneGraduallySettings

from ..constraints.base import Part
from ..constraints.gates import Gated, gates_of, keep_best, pools_of
from ..method import Learning, Moment, cubic
from .taught import Taught

if TYPE_CHECKING:
    from ..student import Student


class Moving(Gated):
    """A gated tensor that also sums how far training moves each weight away from zero."""

    def __init__(self, inner: Part, layer: Any = None) -> None:
        super().__init__(inner, layer)
        self.register_buffer("score", torch.zeros_like(self.kept, dtype=torch.float32))
        self.score: Tensor


class PruneGradually(Taught[PruneGraduallySettings]):
    """Prunes by the highest scores kept, more and more."""

    def constrain(self, tensor: Learning) -> Part | None:
        """Return the tensor with a gate, where it is the weight of a chosen layer."""
        inner = super().constrain(tensor)
        if inner is None or tensor.settings is None:
            return inner
        return Moving(inner, tensor.settings) if self._moves else Gated(inner, tensor.settings)

    def before_step(self, student: Student, optimizer: Any, moment: Moment) -> None:
        """Prune to the present share, every so many steps and at the end of the rise."""
        last = self._last(moment)
        if moment.step <= last and (moment.step % self.settings.every == 0 or moment.step == last):
            self._prune(gates_of(student), moment)
        if self._moves and moment.step <= last:
            for gate in gates_of(student).values():
                gate.watch()

    def after_backward(self, student: Student, optimizer: Any, moment: Moment) -> None:
        """Add up movement."""
        for gate in gates_of(student).values() if self._moves else ():
            assert isinstance(gate, Moving)
            gradient = gate.gradient(student.loss_scale)
            if gradient is not None:
                with torch.no_grad():
                    gate.score -= gate.inner() * gradient

    def finished(self, moment: Moment) -> bool:
        """Whether the ratio is reached."""
        return moment.step > self._last(moment)

    @property
    def _moves(self) -> bool:
        return self.settings.criterion == "movement"

    def _last(self, moment: Moment) -> int:
        """Return the step at which the ratio is reached: one that is trained on afterwards."""
        return moment.at(self.settings.end)

    def _risen(self, ratio: float, moment: Moment) -> float:
        """Return the share that is pruned now, on the way to ``ratio``."""
        share = min(1.0, moment.step / max(1, self._last(moment)))
        if self.settings.rise == "cubic":
            return cubic(share) * ratio
        # magnitudes are known before the first round, movements only at its end
        begun = 0 if self._moves else 1
        done = min(self.settings.rounds, int(share * self.settings.rounds) + begun)
        return float(1 - (1 - ratio) ** (done / self.settings.rounds))

    def _prune(self, gates: dict[str, Gated], moment: Moment) -> None:
        scores = {name: gate.score if isinstance(gate, Moving) else gate.magnitudes() for name, gate in gates.items()}
        for ratio, pool in pools_of(gates, self.settings.scope):
            keep_best({name: scores[name] for name in pool}, pool, self._risen(ratio, moment))
