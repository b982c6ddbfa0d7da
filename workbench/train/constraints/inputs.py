"""Grids of layers' inputs that learn: their step (LSQ), their offset too (LSQ+), or where they are cut (PACT).

Of inputs of two values (XNOR-Net) the distance of both from their middle learns, and the middle where offsets do: by
the gradient of the result, as in Bulat and Tzimiropoulos 2019 ("XNOR-Net++"), who let scales learn instead of
computing them from each image.

A learned step gets the gradient of the rounded value (Esser et al. 2020, equation 3, scaled as there), a learned
offset that of the values beyond the grid's ends (Bhalgat et al. 2020, "LSQ+", equation 5); it is kept at whole
steps, so that zero stays on the grid. A learned cut gets the gradient of the values beyond it alone (Choi et al.
2018, "PACT", equation 3), scaled alike; the step follows from it, and the zero point stays what calibration made it.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn

from workbench.calls import changed
from workbench.models.edits import REACH, BinarizeInput, Edit, InputQuantizer, QuantizeInput, QuantizeInputByBatch

from .gradients import slower, straight, whole_zero


class LearnedInput(nn.Module):
    """A forward pre-hook that rounds a layer's input on a grid that learns."""

    def __init__(self, edit: QuantizeInput, how: str, learn_offset: bool = False) -> None:
        super().__init__()
        self.edit, self.how = edit, "binary" if isinstance(edit, BinarizeInput) else how
        self.most = 2**edit.bits - 1
        self.scale = nn.Parameter(torch.tensor(float(edit.scale)))
        if isinstance(edit, BinarizeInput):
            self.centre = nn.Parameter(torch.tensor(float(edit.centre)), requires_grad=learn_offset)
        offset = torch.tensor(-edit.zero_point * float(edit.scale))
        self.offset = nn.Parameter(offset) if learn_offset and how == "step" else None

    def forward(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the call's arguments, what enters the layer rounded; of attention all three."""
        return changed(module, args, kwargs, self._round)

    @torch.no_grad()
    def learned(self) -> dict[str, Tensor]:
        """Return the step, as ``input``, with ``input_zero`` (zero's code) or ``input_centre`` where these learned."""
        step = self._positive()
        found = {"input": step.double()}
        if self.how == "binary" and self.centre.requires_grad:
            found["input_centre"] = self.centre.double()
        if self.offset is not None:
            found["input_zero"] = whole_zero(self.offset, step, self.most).double()
        return found

    def _positive(self) -> Tensor:
        return self.scale.clamp_min(torch.finfo(torch.float32).eps)

    def _round(self, values: Tensor) -> Tensor:
        if self.how == "binary":
            return self._binary(values)
        return self._cut(values) if self.how == "cut" else self._step(values)

    def _binary(self, values: Tensor) -> Tensor:
        share = 1 / sqrt(max(1.0, values[0].numel()))
        scale, centre = slower(self._positive(), share), slower(self.centre, share)
        signs = torch.where(values > centre.detach(), 1.0, -1.0)
        place = ((values - centre) / scale.detach()).clamp(-REACH, REACH)
        rounded: Tensor = centre + straight(place, signs) * scale
        return rounded

    def _cut(self, values: Tensor) -> Tensor:
        # summed over all values, the gradient would throw the cut about at the learning rates of weights
        share = 1 / sqrt(max(1.0, values[0].numel() * self.most))
        zero, scale = self.edit.zero_point, slower(self._positive(), share)
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
        if isinstance(edit, QuantizeInput) and not isinstance(edit, QuantizeInputByBatch):
            hooks = body.get_submodule(edit.layer)._forward_pre_hooks
            for key, hook in hooks.items():
                if isinstance(hook, InputQuantizer):
                    hooks[key] = found[edit.layer] = LearnedInput(edit, how, learn_offsets)
    return found
