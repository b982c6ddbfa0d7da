"""Masks by straight-through scores; see ``workbench.techniques.trained.learn_scores``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from workbench.techniques.trained import LearnScoresSettings

from ..constraints.base import Constraint, Part
from ..constraints.gates import Gated, gates_of, pools_of, top
from ..constraints.gradients import straight
from ..method import Learning, Moment, cubic
from .taught import Taught

if TYPE_CHECKING:
    from ..student import Student


class Scored(Gated):
    """A gated tensor whose gates follow from scores that learn; what was pruned before stays out."""

    def __init__(self, inner: Part, layer: Any = None) -> None:
        super().__init__(inner, layer)
        with torch.no_grad():
            self.score = nn.Parameter(inner().abs())
        self.register_buffer("allowed", self.kept.clone())
        self.allowed: Tensor

    def forward(self) -> Tensor:
        """Return the values that are used; the gradient of the choice goes to the scores."""
        return self.inner() * straight(self.score, self.kept.float())

    def ranked(self) -> Tensor:
        """Return the scores, flat, the lowest there is where a weight may not come in."""
        return self.score.detach().masked_fill(~self.allowed, -torch.inf).flatten()


class LearnScores(Taught[LearnScoresSettings]):
    """Chooses anew before every step."""

    def constrain(self, tensor: Learning) -> Part | None:
        """Return the tensor with scores, where it is the weight of a chosen layer."""
        inner = super().constrain(tensor)
        if inner is None or tensor.settings is None:
            return inner
        if self.settings.weights == "frozen" and isinstance(inner, Constraint):
            inner.values.requires_grad_(False)
        return Scored(inner, tensor.settings)

    def before_step(self, student: Student, optimizer: Any, moment: Moment) -> None:
        """Use the weights of the highest scores, fewer and fewer until the ratio is reached."""
        if moment.step > self._settled(moment):
            return
        gates = {name: gate for name, gate in gates_of(student).items() if isinstance(gate, Scored)}
        risen = cubic(moment.step / max(1, self._last(moment)))
        for ratio, pool in pools_of(gates, self.settings.scope):
            _choose(list(pool.values()), risen * ratio)

    def paces(self) -> dict[str, float]:
        """Return how much faster scores learn."""
        return {"score": self.settings.pace}

    def finished(self, moment: Moment) -> bool:
        """Whether the ratio is reached."""
        return moment.step > self._last(moment)

    def _last(self, moment: Moment) -> int:
        """Return the step at which the ratio is reached."""
        return moment.at(self.settings.end)

    def _settled(self, moment: Moment) -> int:
        return max(self._last(moment), round(self.settings.settle * moment.total))


@torch.no_grad()
def _choose(gates: list[Scored], ratio: float) -> None:
    """Use the highest scores over all of ``gates``, so that ``ratio`` of their weights are left out."""
    scores = [gate.ranked() for gate in gates]
    if scores:
        best = top(torch.cat(scores), ratio)
        for gate, part in zip(gates, best.split([len(score) for score in scores]), strict=True):
            gate.kept.copy_(part.view_as(gate.kept))
