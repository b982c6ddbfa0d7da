"""One layer in depth: its weights channel by channel, outliers, effective rank, dead filters, and what it puts out.

*Boxes* are each output channel's least, lower quartile, median, upper quartile and largest weight. *Outliers* are
weights further than four standard deviations from the layer's mean, which stretch a quantizer's grid. The *effective
rank* is the exponential of the entropy of the normalised singular values (Roy and Vetterli 2007): how many directions
carry the weight, from 1 to its full rank. A *dead* filter has weights that are all zero, or outputs that do not change
over the calibration images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.measure.spectrum import singular_values
from workbench.recipe import Recipe

from .layers import layer_table

if TYPE_CHECKING:
    from workbench.session import Session

QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
#: Standard deviations from the mean beyond which a weight is an outlier; calibration images run.
FAR, IMAGES, BATCH = 4.0, 256, 64


@dataclass(frozen=True)
class Weights:
    """A layer's main weight under one setting; ``boxes`` has five numbers for each of ``channels``, by QUANTILES."""

    channels: tuple[int, ...]
    boxes: tuple[tuple[float, ...], ...]
    outliers: float
    effective_rank: float | None
    full_rank: int


@dataclass(frozen=True)
class Outputs:
    """What a layer puts out on calibration images: each channel's least and largest value; share of exact zeros."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    zeros: float


@dataclass(frozen=True)
class Depth:
    """One layer before (uncompressed) and after; ``dead`` are the present channels without a say, as numbered before.

    ``outputs_before`` and ``outputs_after`` are None where the layer gives no tensor. Shares are of all layers.
    """

    layer: str
    before: Weights
    after: Weights
    outputs_before: Outputs | None
    outputs_after: Outputs | None
    dead: tuple[int, ...]
    n: int
    time_share: float | None
    size_share: float
    macs_share: float

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


def look_into(session: Session, layer: str, recipe: Recipe, check: Callable[[], None] = lambda: None) -> Depth:
    """Return ``layer`` in depth under ``recipe``, beside the uncompressed one.

    ``check`` is called between batches and may raise. Raises ``WorkbenchError`` for a layer that there is not, or
    that the recipe removed.
    """
    compressed = session.compress(recipe)
    pair = compressed.weight_pair(layer)
    kept = tuple(int(channel) for channel in pair.outputs)
    split = session.data.splits.get("calibration") or session.split
    images = session.normalization(split.images[split.drawn(IMAGES)])
    ours = _outputs(session.compress(Recipe()).fresh_module(), layer, images, check)
    theirs = _outputs(compressed.fresh_module(), layer, images, check)
    (row,) = [row for row in layer_table(session) if row.name == layer]
    macs = sum(one.macs for one in compressed.layers)
    before = _weights(pair.before, tuple(range(len(pair.before))))
    after = _weights(pair.after, kept)
    return Depth(
        layer, before, after, ours, theirs, _dead(pair.after, kept, theirs), len(images), row.time_share,
        row.size_share, row.macs / macs if macs else 0.0,
    )  # fmt: skip


def effective_rank(values: NDArray[np.float32]) -> float:
    """Return the effective rank from singular ``values`` ``(n,)``; 0 for a weight of zeros.

    >>> round(effective_rank(np.array([2, 2, 0], np.float32)), 6)
    2.0
    """
    shares = values.astype(np.float64)
    if shares.sum() <= 0:
        return 0.0
    shares = shares[shares > 0] / shares.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _weights(weight: Tensor, channels: tuple[int, ...]) -> Weights:
    rows = weight.detach().float().flatten(1)
    boxes = np.quantile(rows.numpy(), QUANTILES, axis=1).T if rows.numel() else np.empty((0, len(QUANTILES)))
    far = (rows - rows.mean()).abs() > FAR * rows.std() if rows.numel() > 1 else torch.zeros(1)
    try:
        rank: float | None = effective_rank(singular_values(rows))
    except WorkbenchError:  # too large to decompose while someone waits, or not finite
        rank = None
    return Weights(
        channels, tuple(tuple(float(value) for value in box) for box in boxes), float(far.float().mean()), rank,
        min(rows.shape),
    )  # fmt: skip


def _outputs(module: nn.Module, name: str, images: Tensor, check: Callable[[], None]) -> Outputs | None:
    """Return what ``name`` puts out on ``images``; channels are the second axis of convolutions, the last one else."""
    layer = module.get_submodule(name)
    *_, last = layer.modules()  # of a chain of factors the last link
    axis = 1 if isinstance(last, nn.modules.conv._ConvNd) else -1
    lows: list[Tensor] = []
    highs: list[Tensor] = []
    zeros = seen = 0

    def note(_: nn.Module, __: Any, output: Any) -> None:
        nonlocal zeros, seen
        first = output[0] if isinstance(output, tuple) else output
        if isinstance(first, Tensor) and first.ndim > 1:
            channels = first.float().movedim(axis, 0).flatten(1)
            lows.append(channels.amin(1))
            highs.append(channels.amax(1))
            zeros += int((channels == 0).sum())
            seen += channels.numel()

    handle = layer.register_forward_hook(note)
    try:
        with torch.inference_mode():
            for batch in images.split(BATCH):
                check()
                module(batch)
    finally:
        handle.remove()
    if not lows:
        return None
    low, high = torch.stack(lows).amin(0), torch.stack(highs).amax(0)
    return Outputs(tuple(low.tolist()), tuple(high.tolist()), zeros / max(1, seen))


def _dead(weight: Tensor, kept: tuple[int, ...], outputs: Outputs | None) -> tuple[int, ...]:
    still = weight.detach().flatten(1).abs().amax(1) == 0 if weight.numel() else torch.zeros(0, dtype=torch.bool)
    if outputs is not None and len(outputs.low) == len(kept):
        flat = torch.tensor(outputs.high) - torch.tensor(outputs.low) <= 1e-6
        still = still | flat
    return tuple(channel for channel, dead in zip(kept, still.tolist(), strict=True) if dead)
