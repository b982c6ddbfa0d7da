"""Sparse variational dropout; see ``workbench.techniques.trained.sparsify_bayesian``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from workbench.techniques.trained import SparsifyBayesianSettings

from ..constraints import Constraint, Part
from ..method import Learning, Moment
from .taught import Taught

if TYPE_CHECKING:
    from ..student import Student

#: Logarithm of the variances at first, and the ends of log α, beyond which it does not matter.
START, ENDS = -10.0, 10.0
#: Constants of the divergence's approximation (Molchanov et al. 2017, equation 14).
K1, K2, K3 = 0.63576, 1.87320, 1.48695


class Noisy(Part):
    """A tensor of normally distributed values: drawn in training, otherwise their means, noisy ones dropped."""

    def __init__(self, inner: Constraint, noise: float) -> None:
        super().__init__()
        self.inner, self.noise = inner, noise
        self.log_variance = nn.Parameter(torch.full_like(inner.values, START))

    def forward(self) -> Tensor:
        """Return values."""
        mean: Tensor = self.inner()
        if not self.training:
            return mean * self.kept()
        return mean + (0.5 * self.log_variance).exp() * torch.randn_like(mean)

    def log_alpha(self) -> Tensor:
        """Return the logarithm of each value's variance over its squared mean."""
        return (self.log_variance - (self.inner().square() + 1e-12).log()).clamp(-ENDS, ENDS)

    def kept(self) -> Tensor:
        """Return which values are more than noise."""
        return self.log_alpha() <= self.noise

    def divergence(self) -> Tensor:
        """Return the divergence from the prior, summed over values, up to a constant."""
        log_alpha = self.log_alpha()
        kept = K1 * torch.sigmoid(K2 + K3 * log_alpha) - 0.5 * (-log_alpha).exp().log1p() - K1
        return -kept.sum()

    def learned(self) -> dict[str, Tensor]:
        """Return the means that are kept, which they are, and the variances."""
        with torch.no_grad():
            kept = self.kept()
            return {"": self.inner() * kept, "kept": kept, "log_variance": self.log_variance.detach().clone()}


class SparsifyBayesian(Taught[SparsifyBayesianSettings]):
    """Adds the divergence to the loss."""

    def constrain(self, tensor: Learning) -> Part | None:
        """Return the tensor with variances, where it is a chosen weight that is stored as it is."""
        inner = super().constrain(tensor)
        if tensor.settings is None or tensor.storage is not None or not isinstance(inner, Constraint):
            return inner
        return Noisy(inner, self.settings.noise)

    def penalty(self, student: Student, moment: Moment) -> Tensor | None:
        """Return the divergence, a training image's share of it."""
        parts = [part.divergence() for _, part in student.parts() if isinstance(part, Noisy)]
        if not parts:
            return None
        risen = min(1.0, moment.share / self.settings.rise) if self.settings.rise else 1.0
        return self.settings.strength * risen * torch.stack(parts).sum() / (moment.each * self.settings.batch)

    def paces(self) -> dict[str, float]:
        """Return how much faster variances learn."""
        return {"log_variance": self.settings.pace}

    def finished(self, moment: Moment) -> bool:
        """Whether the divergence has its whole weight."""
        return moment.share > self.settings.rise
