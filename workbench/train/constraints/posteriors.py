"""Weights that are normally distributed: drawn in training, otherwise their means, and nothing where noise prevails."""

from __future__ import annotations

from math import ceil, log2

import torch
from torch import Tensor, nn

from workbench.techniques.storage import Codes

from .base import Constraint, Masked, Part

#: Logarithm of the variances at first, and the ends of log α, beyond which it does not matter.
START, ENDS = -10.0, 10.0
#: Constants of the divergence's approximation (Molchanov et al. 2017, equation 14).
K1, K2, K3 = 0.63576, 1.87320, 1.48695
#: What is added to squares before their logarithm is taken.
TINY = 1e-12
#: Fewest and most bits of a weight that is rounded by its variance.
FEWEST, MOST = 2, 8


def divergence_from_log_uniform(log_alpha: Tensor) -> Tensor:
    """Return a normal posterior's divergence from the log-uniform prior, up to a constant: 0 for certain noise."""
    return K1 - K1 * torch.sigmoid(K2 + K3 * log_alpha) + 0.5 * (-log_alpha).exp().log1p()


class Posterior(Part):
    """A tensor with a posterior; subclasses say which. ``noise`` is the log α from which on a value is dropped."""

    def __init__(self, inner: Constraint, noise: float, rounds: bool) -> None:
        super().__init__()
        self.inner, self.noise, self.rounds = inner, noise, rounds
        there = inner.kept if isinstance(inner, Masked) else torch.ones_like(inner.values, dtype=torch.bool)
        #: Where nothing was pruned before: elsewhere there is no noise either, and nothing to diverge.
        self.register_buffer("there", there.clone(), persistent=False)
        self.there: Tensor

    def forward(self) -> Tensor:
        """Return values: drawn in training, else what will be stored."""
        if self.training:
            return self.draw()
        values = self.mean() * self.kept()
        return self._grid(values).decode() if self.rounds else values

    def draw(self) -> Tensor:
        """Return values drawn from the posterior."""
        raise NotImplementedError

    def mean(self) -> Tensor:
        """Return the posterior mean of each value."""
        raise NotImplementedError

    def variance(self) -> Tensor:
        """Return the posterior variance of each value."""
        raise NotImplementedError

    def kept(self) -> Tensor:
        """Return which values are more than noise."""
        raise NotImplementedError

    def divergence(self) -> Tensor:
        """Return the divergence from the prior, summed over values, up to a constant."""
        raise NotImplementedError

    @torch.no_grad()
    def learned(self) -> dict[str, Tensor]:
        """Return the means that are kept, which they are, and the posterior; a grid where values are rounded."""
        kept, mean = self.kept(), self.mean()
        found = {"": mean * kept, "kept": kept.expand(mean.shape).clone(), "mean": mean, "variance": self.variance()}
        if self.rounds:
            grid = self._grid(found[""])
            about = torch.tensor([grid.bits, -1])
            found |= {"codes": grid.codes, "scale": grid.scale, "zero_point": grid.zero_point, "grid": about}
        return {name: value.clone() for name, value in found.items()}

    @torch.no_grad()
    def _grid(self, values: Tensor) -> Codes:
        """Return ``values`` on a grid whose rounding error has at most their mean posterior variance, if 8 bits do."""
        there = values != 0
        spread = self.variance()[there].mean() if there.any() else torch.tensor(1.0)
        low, high = float(values.min().clamp_max(0)), float(values.max().clamp_min(0))
        bits = bits_for(high - low, float(spread))
        scale = max((high - low) / (2**bits - 1), torch.finfo(torch.float32).eps)
        zero = round(-low / scale)
        codes = (torch.round(values / scale) + zero).clamp(0, 2**bits - 1).to(torch.uint8)
        return Codes(codes, torch.tensor([scale]), torch.tensor([float(zero)]), None, bits)


def bits_for(reach: float, variance: float) -> int:
    """Return the bits of a grid over ``reach`` whose rounding error, step² / 12, is at most ``variance``; 2 to 8."""
    step = max((12 * variance) ** 0.5, torch.finfo(torch.float32).tiny)
    return min(MOST, max(FEWEST, ceil(log2(reach / step + 1)))) if reach > 0 else FEWEST


class Noisy(Posterior):
    """Every value with a mean and a variance of its own, under the log-uniform prior."""

    def __init__(self, inner: Constraint, noise: float, rounds: bool = False) -> None:
        super().__init__(inner, noise, rounds)
        self.log_variance = nn.Parameter(torch.full_like(inner.values, START))

    def draw(self) -> Tensor:
        """Return values drawn from the posterior."""
        mean: Tensor = self.inner()
        return mean + (0.5 * self.log_variance).exp() * torch.randn_like(mean) * self.there

    def mean(self) -> Tensor:
        """Return the means."""
        mean: Tensor = self.inner()
        return mean

    def variance(self) -> Tensor:
        """Return the variances."""
        return self.log_variance.exp()

    def log_alpha(self) -> Tensor:
        """Return the logarithm of each value's variance over its squared mean."""
        return (self.log_variance - (self.inner().square() + TINY).log()).clamp(-ENDS, ENDS)

    def kept(self) -> Tensor:
        """Return which values are more than noise."""
        return self.log_alpha() <= self.noise

    def divergence(self) -> Tensor:
        """Return the divergence from the prior, summed over values, up to a constant."""
        return (divergence_from_log_uniform(self.log_alpha()) * self.there).sum()


class GroupNoisy(Posterior):
    """Values that are a group's scale times normal ones, under the normal-Jeffreys prior.

    ``axis`` counts the groups. The scale z has a normal posterior, and given z a value is normal with mean z μ and
    variance z² σ² (Louizos et al. 2017, equation 8). ``inner`` holds μ, for values of about unit size.
    """

    def __init__(self, inner: Constraint, axis: int, noise: float, rounds: bool = False) -> None:
        super().__init__(inner, noise, rounds)
        self.axis = axis
        values = inner.values.detach()
        others = [place for place in range(values.ndim) if place != axis]
        size = values.square().mean(others, keepdim=True).sqrt()
        scale = torch.where(size > 0, size, torch.ones_like(size))
        with torch.no_grad():
            inner.values.div_(scale)
        self.scale = nn.Parameter(scale)
        self.scale_log_variance = nn.Parameter(START + scale.square().log())
        self.log_variance = nn.Parameter(torch.full_like(values, START))

    def draw(self) -> Tensor:
        """Return values drawn from the posterior."""
        normal: Tensor = self.inner()
        scale = self.scale + (0.5 * self.scale_log_variance).exp() * torch.randn_like(self.scale)
        return scale * (normal + (0.5 * self.log_variance).exp() * torch.randn_like(normal) * self.there)

    def mean(self) -> Tensor:
        """Return the means."""
        return self.scale * self.inner()

    def variance(self) -> Tensor:
        """Return the marginal variances, of values whose scale is not known."""
        own, ofscale = self.log_variance.exp(), self.scale_log_variance.exp()
        return ofscale * (own + self.inner().square()) + self.scale.square() * own

    def log_alpha(self) -> Tensor:
        """Return the logarithm of each scale's variance over its squared mean."""
        return (self.scale_log_variance - (self.scale.square() + TINY).log()).clamp(-ENDS, ENDS)

    def kept(self) -> Tensor:
        """Return which groups are more than noise, such that it broadcasts against the values."""
        return self.log_alpha() <= self.noise

    def divergence(self) -> Tensor:
        """Return the divergence from the prior, that of the scales and that of the values given them."""
        given = self.log_variance.exp() + self.inner().square() - 1 - self.log_variance
        return divergence_from_log_uniform(self.log_alpha()).sum() + 0.5 * (given * self.there).sum()
