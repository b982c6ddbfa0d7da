"""Binary and ternary weights that learn: signs are taken anew in every pass from weights that are whole.

What a pass runs with follows from the whole weights alone, so they learn on whether or not their sign changes
now; what is stored are the signs and scales of the last pass.
"""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor, nn

from workbench.techniques.quantize.formats import TERNARY_SHARE
from workbench.techniques.storage import TableCodes, TernaryCodes

from .base import Masked
from .gradients import slower, spread, straight, totals

#: A learned scale stays above this, so that its sign is that of its weights.
LEAST = 1e-8


class Binary(Masked):
    """Signs times the mean magnitude of each slice (Rastegari et al. 2016, "XNOR-Net", section 3.1).

    The sign is passed straight through where a weight is within ±1 (equation 4's), the mean by its own gradient.
    """

    def __init__(self, storage: TableCodes, kept: Tensor, whole: Tensor | None = None) -> None:
        super().__init__(storage.decode() if whole is None else whole, kept)
        self.storage = storage

    def forward(self) -> Tensor:
        """Return the signs times their scales."""
        values = self.whole() * self.kept
        signs = torch.where(values > 0, 1.0, -1.0) * self.kept
        scale = spread(self._scale(values), tuple(values.shape), self.storage.axis, self.storage.group)
        return straight(values.clamp(-1, 1), signs) * scale

    @torch.no_grad()
    def learned(self) -> dict[str, Tensor]:
        """Return the whole weights and the scales."""
        found = super().learned()
        return {**found, "scale": self._scale(found[""])}

    def _scale(self, values: Tensor) -> Tensor:
        axis, group = self.storage.axis, self.storage.group
        return totals(values.abs(), axis, group) / totals(self.kept.float(), axis, group).clamp_min(1)


class Ternary(Masked):
    """Signs of the weights beyond a threshold, zero for the others.

    The threshold is 0.7 times the mean magnitude of a slice. With one scale it is the mean magnitude beyond
    the threshold (Li et al. 2016, "Ternary Weight Networks"), and the gradient is passed straight through.

    With ``two`` the positive and the negative weights of the tensor have a scale each, which learns by the sum
    of their gradients, divided by the root of the number of weights so that it keeps pace; a weight's own
    gradient is multiplied by its scale, by one where it is zero (Zhu et al. 2017, "Trained Ternary
    Quantization", equations 7 and 8). Slices differ as they did at first.
    """

    def __init__(self, storage: TernaryCodes, kept: Tensor, two: bool, whole: Tensor | None = None) -> None:
        super().__init__(storage.decode() if whole is None else whole, kept)
        self.storage = storage
        self.two = two
        middle = storage.scale.mean().clamp_min(torch.finfo(torch.float32).tiny)
        self.register_buffer("relative", storage.scale / middle)
        self.relative: Tensor
        self.scales = nn.Parameter(middle.repeat(2), requires_grad=two)

    def forward(self) -> Tensor:
        """Return the ternary values."""
        values = self.whole() * self.kept
        signs = self._signs(values.detach())
        if not self.two:
            return straight(values, signs * self._spread(self._scale(values.detach(), signs)))
        relative = self._spread(self.relative)
        positive, negative = self._positive()
        above, below = (signs > 0) * relative, (signs < 0) * relative
        pull = (above * positive + below * negative + (signs == 0)).detach()
        return above * positive - below * negative + straight(values * pull, torch.zeros_like(values))

    @torch.no_grad()
    def learned(self) -> dict[str, Tensor]:
        """Return the whole weights, signs (0 to 2) and scales: of both signs where there are two."""
        found = super().learned()
        signs = self._signs(found[""])
        found["codes"] = (signs + 1).to(torch.uint8)
        if not self.two:
            return {**found, "scale": self._scale(found[""], signs)}
        positive, negative = self._positive()
        return {**found, "scale": self.relative.clone(), "two": torch.stack([negative, positive])}

    def _signs(self, values: Tensor) -> Tensor:
        sizes = values.abs()
        used = totals((values != 0).float(), self.storage.axis, self.storage.group).clamp_min(1)
        threshold = TERNARY_SHARE * totals(sizes, self.storage.axis, self.storage.group) / used
        return values.sign() * (sizes > self._spread(threshold))

    def _scale(self, values: Tensor, signs: Tensor) -> Tensor:
        beyond = signs.abs()
        axis, group = self.storage.axis, self.storage.group
        return totals(values.abs() * beyond, axis, group) / totals(beyond, axis, group).clamp_min(1)

    def _positive(self) -> tuple[Tensor, Tensor]:
        scales = slower(self.scales, 1 / sqrt(self.values.numel()))
        positive, negative = straight(scales, scales.clamp_min(LEAST)).unbind()
        return positive, negative

    def _spread(self, values: Tensor) -> Tensor:
        return spread(values, tuple(self.values.shape), self.storage.axis, self.storage.group)
