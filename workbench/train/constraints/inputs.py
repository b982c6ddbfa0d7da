"""Grids of layers' inputs that learn: their step (LSQ), their offset too (LSQ+), or where they are cut (PACT).

A learned step gets the gradient of the rounded value (Esser et al. 2020, equation 3, scaled as there), a learned
offset that of the values beyond the grid's ends (Bhalgat et al. 2020, "LSQ+", equation 5); it is kept at whole
steps, so that zero stays on the grid. A learned cut gets the gradient of the values beyond it alone (Choi et al.
2018, "PACT", equation 3); the step follows from it, and the zero point stays what calibration made it.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn

from workbench.models.edits import Edit, InputQuantizer, QuantizeInput

from .gradients import slower, straight, whole_zero


class LearnedInput(nn.Module):
    """A forward pre-hook that rounds a layer's input on a grid that learns."""

    def __init__(self, edit: QuantizeInput, how: str, learn_offset: bool = False) -> None:
        super().__init__()
        self.edit, self.how = edit, how
        self.most = 2**edit.bits - 1
        self.scale = nn.Parameter(torch.tensor(float(edit.scale)))
        offset = torch.tensor(-edit.zero_point * float(edit.scale))
        self.offset = nn.Parameter(offset) if learn_offset and how == "step" else None

    def forward(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the inputs, the first of them rounded; of attention all three."""
        count = 3 if isinstance(module, nn.MultiheadAttention) else 1
        rounded = {id(given): self._round(given) for given in inputs[:count]}
        return (*(rounded[id(given)] for given in inputs[:count]), *inputs[count:])

    @torch.no_grad()
    def learned(self) -> dict[str, Tensor]:
        """Return the step, as ``input``, and the code of zero where it learned, as ``input_zero``."""
        step = self._positive()
        found = {"input": step.double()}
        if self.offset is not None:
            found["input_zero"] = whole_zero(self.offset, step, self.most).double()
        return found

    def _positive(self) -> Tensor:
        return self.scale.clamp_min(torch.finfo(torch.float32).eps)

    def _round(self, values: Tensor) -> Tensor:
        return self._cut(values) if self.how == "cut" else self._step(values)

    def _cut(self, values: Tensor) -> Tensor:
        zero, scale = self.edit.zero_point, self._positive()
        top = scale * (self.most - zero)
        cut = torch.minimum(values, top).clamp_min(float(-zero * scale.detach()))
        with torch.no_grad():
            codes = torch.round(values / scale).add_(zero).clamp_(0, self.most)
            rounded = codes.sub_(zero).mul_(scale)
        return straight(cut, rounded)

    def _step(self, values: Tensor) -> Tensor:
        share = 1 / sqrt(max(1.0, values[0].numel() * self.most))
        scale = slower(self._positive(), share)
        zero: Any = self.edit.zero_point
        if self.offset is not None:
            zero = whole_zero(slower(self.offset, share), scale, self.most)
        inside = (values / scale + zero).clamp(0, self.most)
        # rounded before the zero is added, as it will be where it runs
        rounded: Tensor = (straight(inside, torch.round(inside - zero) + zero) - zero) * scale
        return rounded


def learn_inputs(
    body: nn.Module, edits: Iterable[Edit], how: str, learn_offsets: bool = False
) -> dict[str, LearnedInput]:
    """Put a learned grid in the place of each fixed one of ``body``; return them by layer."""
    found = {}
    for edit in edits:
        if type(edit) is QuantizeInput:
            hooks = body.get_submodule(edit.layer)._forward_pre_hooks
            for key, hook in hooks.items():
                if isinstance(hook, InputQuantizer):
                    hooks[key] = found[edit.layer] = LearnedInput(edit, how, learn_offsets)
    return found
