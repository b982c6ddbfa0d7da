"""Training with BatchNorm folded into the weights that are rounded.

What runs later are weights times their BatchNorm's factor f = gamma / sigma, on a grid. Folding the batch's own
sigma would make that grid jump from step to step, so the factor is that of the running statistics, and the
output is corrected by sigma_running / sigma_batch, which leaves the mean and spread of plain training
(Krishnamoorthi 2018, section 3.2.2, after Jacob et al. 2018, section 3.2). Once statistics are frozen the
correction is gone, and training sees what will run.

Statistics are kept of the layer's unfolded output u. What comes in is y = f u.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.models.chains import Normed, find_normed
from workbench.techniques.draft import Draft
from workbench.techniques.fold_batchnorm import neutral

from .base import Constraint, Part

#: How far from one a factor may be where weights are on a grid already.
NEAR = 1e-3


class FoldedNorm(nn.Module):
    """In the place of a BatchNorm whose factor the layer before it has taken; its tensors have the same names."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.eps, self.momentum = float(norm.eps), norm.momentum
        self.weight = nn.Parameter(norm.weight.detach().clone(), requires_grad=False)
        self.bias = nn.Parameter(norm.bias.detach().clone(), requires_grad=False)
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(norm, name).clone())
        self.running_mean: Tensor
        self.running_var: Tensor
        self.num_batches_tracked: Tensor

    def reset_parameters(self) -> None:
        """Begin anew, as a BatchNorm does."""
        with torch.no_grad():
            for tensor, value in ((self.weight, 1), (self.bias, 0), (self.running_mean, 0), (self.running_var, 1)):
                tensor.fill_(value)
            self.num_batches_tracked.zero_()

    def sigma(self) -> Tensor:
        """Return the running deviation of the unfolded output, ``(channels,)``."""
        return (self.running_var + self.eps).sqrt()

    def forward(self, values: Tensor) -> Tensor:
        """Return the output ``(N, channels, …)`` of the folded layer, normalised as far as its weights are not."""
        shape = [1, -1, *[1] * (values.ndim - 2)]
        sigma = self.sigma()
        factor = self.weight / sigma
        if not self.training:
            return values + (self.bias - self.running_mean * factor).view(shape)
        axes = [axis for axis in range(values.ndim) if axis != 1]
        mean, variance = values.mean(axes), values.var(axes, correction=0)
        alive = factor.detach().abs() > self.eps
        unfolded = torch.where(alive, factor, torch.ones_like(factor))
        own = torch.where(alive, (variance / unfolded.square() + self.eps).sqrt(), sigma)
        self._follow(mean.detach() / unfolded.detach(), own.detach().square() - self.eps, values.numel() / len(mean))
        return (values - mean.view(shape)) * (sigma / own).view(shape) + self.bias.view(shape)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, count: float) -> None:
        """Move the running statistics towards a batch's, of ``count`` values a channel."""
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else float(self.momentum)
        # new tensors: the factors of this step were made of the old ones, and their gradients are still to come
        self.running_mean = self.running_mean.lerp(mean, share)
        self.running_var = self.running_var.lerp(variance * count / max(1.0, count - 1), share)


class Factor:
    """What the weights of a folded layer are multiplied by; it learns with the BatchNorm's gamma."""

    def __init__(self, gamma: Part, norm: FoldedNorm) -> None:
        self._gamma, self._norm = gamma, norm

    def __call__(self, values: Tensor) -> Tensor:
        """Return ``values``, a weight with its outputs first, folded."""
        factor = self._gamma() / self._norm.sigma()
        return values * factor.view(-1, *[1] * (values.ndim - 1))


class Folding:
    """The folded pairs of a student."""

    def __init__(self, pairs: dict[Normed, FoldedNorm]) -> None:
        self._pairs = pairs

    @torch.no_grad()
    def settle(self, learned: dict[str, Tensor]) -> None:
        """Make BatchNorms in ``learned`` multiply by one, since the weights in it are folded."""
        for pair, norm in self._pairs.items():
            gamma = learned[f"{pair.norm}.weight"]
            mean = norm.running_mean * gamma / norm.sigma()
            learned.update(neutral(pair.norm, mean, gamma, norm.eps))


def fold(body: nn.Module, parts: dict[str, Part], draft: Draft) -> Folding:
    """Fold the BatchNorms of ``body`` into the weights that ``parts`` hold, from now on in every pass.

    Raises ``WorkbenchError`` where weights are stored on a grid or in a table that was made for unfolded ones.
    """
    found = {}
    for pair in _foldable(find_normed(body, draft.stacked), parts):
        norm = FoldedNorm(body.get_submodule(pair.norm))
        weight, gamma = parts[f"{pair.layer}.weight"], parts[f"{pair.norm}.weight"]
        held = innermost(weight)
        assert isinstance(held, Constraint)
        far = float((norm.weight / norm.sigma() - 1).abs().max())
        if f"{pair.layer}.weight" in draft.stored and far > NEAR:
            raise WorkbenchError(
                f"The weights of layer '{pair.layer}' are stored in few values without the factor of their BatchNorm, "
                "so training can't fold it: put fold_batchnorm before quantize."
            )
        held.factor = Factor(gamma, norm)
        body.set_submodule(pair.norm, norm)
        found[pair] = norm
    return Folding(found)


def _foldable(pairs: Iterable[Normed], parts: dict[str, Part]) -> list[Normed]:
    """Return those whose weight learns one by one, and whose BatchNorm learns too."""
    return [
        pair
        for pair in pairs
        if isinstance(innermost(parts.get(f"{pair.layer}.weight")), Constraint) and f"{pair.norm}.weight" in parts
    ]


def innermost(part: nn.Module | None) -> nn.Module | None:
    """Return what holds the values of a part that may be wrapped in others."""
    while part is not None and isinstance(getattr(part, "inner", None), nn.Module):
        part = part.inner  # type: ignore[assignment]
    return part
