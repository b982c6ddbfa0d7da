"""Grids of layers' inputs that learn: their step (LSQ), or where they are cut (PACT).

A learned step gets the gradient of the rounded value (Esser et al. 2020, equation 3, scaled as there). A learned
cut gets that of the values beyond it alone (Choi et al. 2018, "PACT", equation 3); the step follows from it. The
zero point stays what calibration made it.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn

from workbench.models.edits import Edit, InputQuantizer, QuantizeInput


class LearnedInput(nn.Module):
    """A forward pre-hook that rounds a layer's input on a grid that learns."""

    def __init__(self, edit: QuantizeInput, how: str) -> None:
        super().__init__()
        self.edit, self.how = edit, how
        self.most = 2**edit.bits - 1
        self.scale = nn.Parameter(torch.tensor(float(edit.scale)))

    def forward(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the inputs, the first of them rounded; of attention all three."""
        count = 3 if isinstance(module, nn.MultiheadAttention) else 1
        rounded = {id(given): self._round(given) for given in inputs[:count]}
        return (*(rounded[id(given)] for given in inputs[:count]), *inputs[count:])

    def learned(self) -> float:
        """Return the step."""
        return float(self._positive().detach())

    def _positive(self) -> Tensor:
        return self.scale.clamp_min(torch.finfo(torch.float32).eps)

    def _round(self, values: Tensor) -> Tensor:
        zero = self.edit.zero_point
        if self.how == "cut":
            scale = self._positive()
            top = scale * (self.most - zero)
            cut = torch.minimum(values, top).clamp_min(float(-zero * scale.detach()))
            with torch.no_grad():
                codes = torch.round(values / scale).add_(zero).clamp_(0, self.most)
                rounded = codes.sub_(zero).mul_(scale)
            return cut + (rounded - cut).detach()
        slowed = 1 / sqrt(max(1.0, values[0].numel() * self.most))
        scale = self._positive()
        scale = scale * slowed + (scale * (1 - slowed)).detach()
        inside = (values / scale + zero).clamp(0, self.most)
        return (inside + (torch.round(inside - zero) + zero - inside).detach() - zero) * scale


def learn_inputs(body: nn.Module, edits: Iterable[Edit], how: str) -> dict[str, LearnedInput]:
    """Put a learned grid in the place of each fixed one of ``body``; return them by layer."""
    found = {}
    for edit in edits:
        if type(edit) is QuantizeInput:
            hooks = body.get_submodule(edit.layer)._forward_pre_hooks
            for key, hook in hooks.items():
                if isinstance(hook, InputQuantizer):
                    hooks[key] = found[edit.layer] = LearnedInput(edit, how)
    return found
