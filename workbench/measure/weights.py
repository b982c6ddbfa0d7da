"""The distribution of a layer's weights, before and after a recipe: as a whole, by channel, and all layers small."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: More channels than this are summed up in groups of neighbours.
MAX_CHANNELS = 256
#: Of a larger tensor an overview looks at every n-th weight.
OVERVIEW_WEIGHTS = 2**19


@dataclass(frozen=True, eq=False)
class WeightSummary:
    """Histograms of one layer over common bins ``edges`` ``(bins + 1,)`` float32.

    ``before`` and ``after`` are counts ``(bins,)``; ``after`` leaves out the weights that are exactly
    zero where the layer was pruned (their share is ``sparsity``). ``threshold`` is the magnitude up to
    which weights were pruned. ``grid`` holds the values a weight can take, rising: the quantizer's, of the
    channel with the median scale where every channel has its own, or a codebook's; empty where there are
    too many to draw. ``grids`` tells how many there are of which it is the middle one. ``bits``
    is what a stored weight is written in. ``removed`` is the share of the weights that left the layer
    with their channels.
    """

    layer: str
    edges: NDArray[np.float32]
    before: NDArray[np.int64]
    after: NDArray[np.int64]
    threshold: float | None
    grid: NDArray[np.float32]
    sparsity: float
    bits: float | None
    removed: float = 0.0
    grids: int = 1


@dataclass(frozen=True, eq=False)
class ChannelSummary:
    """What the weights of each output channel span, before and after a recipe.

    ``before`` is ``(4, entries)`` float32: lowest, highest, mean and standard deviation; ``after``
    ``(6, entries)`` adds the share of zeros and the quantizer's step (0 where there is none). An entry
    is ``group`` neighbouring channels, of ``channels`` in all. A channel that was removed is NaN in
    ``after``. ``threshold`` is the layer's pruning threshold.
    """

    layer: str
    before: NDArray[np.float32]
    after: NDArray[np.float32]
    channels: int
    group: int
    threshold: float | None


def summarize_weights(
    layer: str,
    before: Sequence[Tensor],
    after: Sequence[Tensor],
    threshold: float | None = None,
    grid: NDArray[np.float32] | None = None,
    bits: float | None = None,
    bins: int = 64,
    grids: int = 1,
) -> WeightSummary:
    """Return the summary of a layer's weight tensors ``before`` and ``after`` a recipe."""
    old, new = _joined(before), _joined(after)
    reach = _reach(old)
    shown = new[new != 0] if threshold is not None else new
    return WeightSummary(
        layer=layer,
        edges=np.linspace(-reach, reach, bins + 1, dtype=np.float32),
        before=_histogram(old, bins, reach),
        after=_histogram(shown, bins, reach),
        threshold=threshold,
        grid=np.empty(0, np.float32) if grid is None else np.unique(grid[np.isfinite(grid)]),
        sparsity=1 - int(torch.count_nonzero(new)) / max(1, new.numel()),
        bits=bits,
        removed=1 - new.numel() / max(1, old.numel()),
        grids=grids,
    )


def summarize_channels(
    layer: str,
    before: Tensor,
    after: Tensor,
    axis: int,
    kept: Tensor,
    threshold: float | None = None,
    steps: Tensor | None = None,
) -> ChannelSummary:
    """Return what each channel along ``axis`` spans.

    ``kept`` ``(channels after,)`` holds the number that each remaining channel had before; ``steps`` is
    the quantizer's step of each remaining channel, or a single one for all.
    """
    rows = before.movedim(axis, 0).flatten(1).float()
    remaining = after.movedim(axis, 0).flatten(1).float()
    channels = len(rows)
    found = torch.full((6, channels), torch.nan)
    found[:4, kept] = _span(remaining)
    found[4, kept] = (remaining == 0).float().mean(1)
    found[5, kept] = torch.zeros(1) if steps is None else steps.float()
    group = -(-channels // MAX_CHANNELS)
    return ChannelSummary(layer, _grouped(_span(rows), group), _grouped(found, group), channels, group, threshold)


class Overview:
    """Small histograms of many layers; a recipe has only those computed anew that it changed.

    A bin's height is a ``uint8`` on a logarithmic scale: ``255 * log(1 + n) / log(1 + ceiling)``, where
    ``ceilings`` ``(layers,)`` is 1.6 times the layer's fullest bin before; what is higher is cut.
    """

    def __init__(self, weights: Mapping[str, Sequence[Tensor]], bins: int = 24) -> None:
        self._bins = bins
        sampled = {layer: _thinned(_joined(tensors)) for layer, tensors in weights.items()}
        self._reach = {layer: _reach(values) for layer, values in sampled.items()}
        counts = {layer: _histogram(values, bins, self._reach[layer]) for layer, values in sampled.items()}
        self._ceiling = {layer: 1.6 * float(max(1, found.max())) for layer, found in counts.items()}
        self._kept: dict[str, tuple[object, NDArray[np.uint8]]] = {}
        self.ceilings = np.asarray(list(self._ceiling.values()), np.float32)
        self.reaches = np.asarray(list(self._reach.values()), np.float32)
        self.before = _stacked([self._levels(layer, found) for layer, found in counts.items()], bins)

    def after(
        self, weights: Mapping[str, Sequence[Tensor]], versions: Mapping[str, object], pruned: Mapping[str, float]
    ) -> NDArray[np.uint8]:
        """Return the heights ``(layers, bins)``; a layer of the same version as the last time is not looked at.

        The zeros of the layers in ``pruned`` are left out.
        """
        return _stacked(
            [self._after(layer, weights, versions[layer], layer in pruned) for layer in self._reach], self._bins
        )

    def _after(
        self, layer: str, weights: Mapping[str, Sequence[Tensor]], version: object, pruned: bool
    ) -> NDArray[np.uint8]:
        key = (version, pruned)
        found = self._kept.get(layer)
        if found is None or found[0] != key:
            values = _thinned(_joined(weights[layer]))
            values = values[values != 0] if pruned else values
            counts = _histogram(values, self._bins, self._reach[layer])
            found = self._kept[layer] = key, self._levels(layer, counts)
        return found[1]

    def _levels(self, layer: str, counts: NDArray[np.int64]) -> NDArray[np.uint8]:
        ceiling = self._ceiling[layer]
        levels = np.log1p(np.minimum(counts, ceiling)) / np.log1p(ceiling)
        heights: NDArray[np.uint8] = np.ceil(255 * levels).astype(np.uint8)
        return heights


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    """Return all weights of a layer as one float vector; a layer mostly has a single tensor."""
    flat = [tensor.detach().flatten() for tensor in tensors]
    return (flat[0] if len(flat) == 1 else torch.cat(flat)).float()


def _thinned(values: Tensor) -> Tensor:
    return values[:: -(-values.numel() // OVERVIEW_WEIGHTS)] if values.numel() > OVERVIEW_WEIGHTS else values


def _reach(values: Tensor) -> float:
    """Return the largest finite magnitude, or 1 where there is none but zero."""
    if not values.numel():
        return 1.0
    low, high = (float(bound) for bound in values.aminmax())
    reach = max(abs(low), abs(high))
    if not np.isfinite(reach):
        return _reach(values[values.isfinite()])
    return reach or 1.0


def _histogram(values: Tensor, bins: int, reach: float) -> NDArray[np.int64]:
    # a coarse grid may reach past the largest weight
    counts: NDArray[np.int64] = torch.histc(values.clamp(-reach, reach), bins, -reach, reach).long().numpy()
    return counts


def _span(rows: Tensor) -> Tensor:
    """Return lowest, highest, mean and standard deviation of each row, ``(4, rows)``."""
    low, high = rows.aminmax(dim=1)
    return torch.stack([low, high, rows.mean(1), rows.std(1, correction=0)])


def _grouped(columns: Tensor, group: int) -> NDArray[np.float32]:
    """Return the columns with ``group`` neighbours in one: the widest range, the mean of the rest."""
    if group > 1:
        short = -columns.shape[1] % group
        parts = torch.nn.functional.pad(columns, (0, short), value=torch.nan).unflatten(1, (-1, group))
        merged = parts.nanmean(2)
        merged[0] = torch.where(parts[0].isnan(), torch.inf, parts[0]).amin(1)
        merged[1] = torch.where(parts[1].isnan(), -torch.inf, parts[1]).amax(1)
        columns = torch.where(merged[2].isnan(), torch.nan, merged)
    return np.asarray(columns.numpy(), np.float32)


def _stacked(rows: list[NDArray[np.uint8]], bins: int) -> NDArray[np.uint8]:
    return np.stack(rows) if rows else np.empty((0, bins), np.uint8)
