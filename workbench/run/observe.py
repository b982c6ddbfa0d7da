"""What calibration data tells of a model: the ranges that enter layers, and BatchNorm's statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from workbench.calls import entering

from .layout import quick_order

#: Images whose activations are observed.
OBSERVED_IMAGES = 256
#: Bins of a histogram of what enters a layer.
HISTOGRAM_BINS = 2048
BATCH = 32

Normalize = Callable[[Tensor], Tensor]


def observe_inputs(
    module: nn.Module,
    images: Tensor,
    normalize: Normalize,
    percentiles: Mapping[str, float],
    check: Callable[[], None],
) -> dict[str, tuple[float, float]]:
    """Return the range of what enters each layer of ``percentiles`` on the first images.

    A percentile of 100 gives minimum and maximum; less clips both tails alike, batch by batch, and
    averages over the batches. ``check`` is called between batches and may raise. Layers that never
    run, or read no floats, are left out.
    """
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in percentiles}
    _watch_inputs(
        module, percentiles, images, normalize, check,
        lambda name, values: seen[name].append(_span(values, percentiles[name])),
    )  # fmt: skip
    return {name: _combine(spans, percentiles[name]) for name, spans in seen.items() if spans}


def observe_histograms(
    module: nn.Module,
    images: Tensor,
    normalize: Normalize,
    ranges: Mapping[str, tuple[float, float]],
    check: Callable[[], None],
) -> dict[str, NDArray[np.int64]]:
    """Return how often what enters each layer falls into each of ``HISTOGRAM_BINS`` bins of its range.

    The images, and what is left out, are those of ``observe_inputs``, which gives the ranges.
    """
    counts = {name: np.zeros(HISTOGRAM_BINS, np.int64) for name in ranges}

    def see(name: str, values: Tensor) -> None:
        counts[name] += torch.histc(values, HISTOGRAM_BINS, *ranges[name]).long().numpy()

    wide = {name: bounds for name, bounds in ranges.items() if bounds[0] < bounds[1]}
    _watch_inputs(module, wide, images, normalize, check, see)
    return counts


def _watch_inputs(
    module: nn.Module,
    layers: Iterable[str],
    images: Tensor,
    normalize: Normalize,
    check: Callable[[], None],
    see: Callable[[str, Tensor], None],
) -> None:
    """Run the first images, and call ``see`` with every float tensor that enters one of ``layers``."""

    def watch(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            for given in entering(layer, args, kwargs):
                # indices (Embedding) are no numbers to round
                if isinstance(given, Tensor) and given.is_floating_point():
                    see(name, given)

        return hook

    module = quick_order(module, normalize(images[:2]))
    handles = [module.get_submodule(name).register_forward_pre_hook(watch(name), with_kwargs=True) for name in layers]
    with torch.inference_mode():
        for batch in images[:OBSERVED_IMAGES].split(BATCH):
            check()
            module(normalize(batch))
    for handle in handles:
        handle.remove()


def recalibrate_batchnorm(
    module: nn.Module, images: Tensor, normalize: Normalize, batch: int, check: Callable[[], None]
) -> dict[str, Tensor]:
    """Return new running statistics of every BatchNorm, by state-dict name: the mean over batches.

    ``module`` is changed. A last batch smaller than half of ``batch`` is left out, since its variance
    would count as much as a full one's.
    """
    module = quick_order(module, normalize(images[:2]))
    norms = {name: part for name, part in module.named_modules() if _has_statistics(part)}
    for norm in norms.values():
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.inference_mode():
        for part in images.split(batch):
            check()
            if norms and (len(part) >= batch / 2 or len(images) < batch):
                module(normalize(part))
    return {
        f"{name}.{tensor}": getattr(norm, tensor).clone()
        for name, norm in norms.items()
        for tensor in ("running_mean", "running_var")
    }


def _has_statistics(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats


def _span(values: Tensor, percentile: float) -> tuple[float, float]:
    if percentile >= 100:
        low, high = values.aminmax()
        return float(low), float(high)
    flat: NDArray[np.float32] = values.reshape(-1).numpy()
    tail = max(1, round(len(flat) * (100 - percentile) / 100))
    ordered = np.partition(flat, (tail - 1, len(flat) - tail))
    return float(ordered[tail - 1]), float(ordered[len(flat) - tail])


def _combine(spans: list[tuple[float, float]], percentile: float) -> tuple[float, float]:
    lows, highs = np.array(spans).T
    if percentile >= 100:
        return float(lows.min()), float(highs.max())
    return float(lows.mean()), float(highs.mean())
