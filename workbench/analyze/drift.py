"""How far activations drift, layer by layer, and the first layer where they go wrong.

The same images run through the dense and the compressed model; each layer's outputs are compared three ways:

- *SQNR*, 10 log10(Σ dense² / Σ (dense − compressed)²) in dB: 20 dB is an error of a tenth in amplitude.
- *Cosine*, the mean over images of the cosine between both outputs.
- *Linear CKA* (Kornblith et al. 2019), which asks whether both see the same likeness between images, whatever
  the scale or rotation of channels; by minibatches with the unbiased HSIC (Nguyen, Raghu and Kornblith 2021).

Removed channels count as zeros, which is what later layers get of them. ``own`` is the SQNR when the compressed
layer is handed the dense model's input: its own error, where the other figures hold what came before it too.

*The first layer where it goes wrong* is the first whose SQNR falls below 10 dB, provided the model's output is
below that as well: rescaled layers (equalization) differ inside a model that answers the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from workbench.compressed import CompressedModel
from workbench.models.edits import Slice

#: Images compared, and how many at once: CKA compares images within a batch.
IMAGES, BATCH = 256, 64
#: dB below which a layer's outputs are called wrong.
WRONG = 10.0
#: dB given for outputs that are the same to the last bit, or nearly.
MOST = 120.0


@dataclass(frozen=True)
class LayerDrift:
    """One layer's outputs, compressed against dense; a figure is NaN where it cannot be had."""

    name: str
    sqnr: float
    own: float
    cosine: float
    cka: float


@dataclass(frozen=True)
class Drift:
    """Layers in call order; ``first`` is the first that goes wrong, or None; ``output`` the logits' SQNR in dB."""

    layers: tuple[LayerDrift, ...]
    output: float
    first: str | None
    n: int

    def sentence(self) -> str:
        """Return in words where it goes wrong."""
        if self.first is None:
            return f"No layer goes wrong: the model's output keeps {self.output:.0f} dB of signal over error."
        layer = next(layer for layer in self.layers if layer.name == self.first)
        own = "by its own error" if layer.own < WRONG + 3 else "through what came before it"
        first, last = (f"{found:.1f} dB".replace("-", "−") for found in (layer.sqnr, self.output))
        return f"It first goes wrong at {self.first} ({first}), {own}; the output keeps {last}."

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


@dataclass
class _Sums:
    signal: float = 0.0
    error: float = 0.0
    own: float = 0.0
    own_known: bool = True
    cosine: float = 0.0
    images: int = 0
    hsic: Tensor = field(default_factory=lambda: torch.zeros(3, dtype=torch.float64))


def measure_drift(
    dense: CompressedModel, compressed: CompressedModel, images: Tensor, check: Callable[[], None] = lambda: None
) -> Drift:
    """Return how far ``compressed`` drifts from ``dense`` on the first normalised ``images`` ``(N, C, H, W)``.

    ``dense`` may be any other setting of the same model whose channels are all there. ``check`` is called between
    batches and may raise.
    """
    ours, theirs = dense.fresh_module(), compressed.fresh_module()
    names = [layer.name for layer in compressed.layers]
    kept = _kept(compressed)
    sums = {name: _Sums() for name in (*names, "")}
    with torch.inference_mode():
        for batch in images[:IMAGES].split(BATCH):
            check()
            if len(batch) < 4:  # the unbiased HSIC takes four images
                break
            entering, leaving = _run(ours, names, batch)
            for name, output in _run(theirs, names, batch)[1].items():
                if name in leaving:
                    full = _spread(output, leaving[name], kept.get(name))
                    _add(sums[name], leaving[name], full, _own(theirs, name, entering, leaving, kept))
    rows = tuple(_row(name, sums[name]) for name in names if sums[name].images)
    whole = _decibels(sums[""].signal, sums[""].error)
    wrong = next((row.name for row in rows if row.sqnr < WRONG), None) if whole < WRONG else None
    return Drift(rows, whole, wrong, sums[""].images)


def linear_cka(one: Tensor, other: Tensor) -> float:
    """Return the linear CKA of two sets of features ``(images, …)`` of the same images, unbiased HSIC."""
    cross, first, second = _hsics(one.flatten(1).double(), other.flatten(1).double()).tolist()
    return float(cross / np.sqrt(first * second)) if first * second > 0 else float("nan")


def _run(module: nn.Module, names: list[str], batch: Tensor) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return what enters and what leaves each layer at its first call; the model's output under ''."""
    entering: dict[str, Any] = {}
    leaving: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            first = output[0] if isinstance(output, tuple) else output
            if name not in leaving and isinstance(first, Tensor):
                entering[name], leaving[name] = inputs, first.detach().clone()

        return hook

    parts = dict(module.named_modules())
    handles = [parts[name].register_forward_hook(watch(name)) for name in names if name in parts]
    leaving[""] = module(batch)
    for handle in handles:
        handle.remove()
    return entering, {name: value.float() for name, value in leaving.items()}


def _own(
    module: nn.Module, name: str, entering: Mapping[str, Any], leaving: Mapping[str, Tensor], kept: Mapping[str, Tensor]
) -> Tensor | None:
    """Return what the compressed layer makes of the dense input, or None where that does not fit it."""
    if not name or len(entering[name]) != 1:
        return None
    try:
        found = module.get_submodule(name)(*entering[name])
    except (RuntimeError, TypeError, ValueError):  # channels were removed from what enters
        return None
    return _spread(found, leaving[name], kept.get(name)) if isinstance(found, Tensor) else None


def _spread(output: Tensor, like: Tensor, kept: Tensor | None) -> Tensor | None:
    """Return ``output`` with zeros where channels were removed, or None where it is not known which."""
    output = output.float()
    if output.shape == like.shape:
        return output
    axis = 1 if like.ndim == 4 or like.ndim == 2 else -1
    if kept is None or output.ndim != like.ndim or output.shape[axis] != len(kept):
        return None
    return torch.zeros_like(like).index_copy_(axis, kept, output)


def _kept(compressed: CompressedModel) -> dict[str, Tensor]:
    """Return layer → the output channels it keeps, counted in the dense layer, over all slices of it."""
    found: dict[str, Tensor] = {}
    for edit in compressed.edits:
        if isinstance(edit, Slice) and edit.side == "out":
            keep = torch.tensor(edit.keep, dtype=torch.long)
            found[edit.layer] = found[edit.layer][keep] if edit.layer in found else keep
    return found


def _add(sums: _Sums, dense: Tensor, other: Tensor | None, own: Tensor | None) -> None:
    if other is None:
        return
    ours, theirs = dense.flatten(1).double(), other.flatten(1).double()
    sums.images += len(ours)
    sums.signal += float(ours.square().sum())
    sums.error += float((ours - theirs).square().sum())
    sums.cosine += float(torch.cosine_similarity(ours, theirs).sum())
    sums.hsic += _hsics(ours, theirs)
    sums.own_known &= own is not None
    if own is not None:
        sums.own += float((ours - own.flatten(1).double()).square().sum())


def _row(name: str, sums: _Sums) -> LayerDrift:
    cross, first, second = sums.hsic.tolist()
    cka = float(cross / np.sqrt(first * second)) if first * second > 0 else float("nan")
    own = _decibels(sums.signal, sums.own) if sums.own_known else float("nan")
    return LayerDrift(name, _decibels(sums.signal, sums.error), own, sums.cosine / sums.images, cka)


def _decibels(signal: float, error: float) -> float:
    if not np.isfinite(error):
        return -MOST
    if error <= 0:
        return MOST
    return float(np.clip(10 * np.log10(max(signal, 1e-300) / error), -MOST, MOST))


def _hsics(one: Tensor, other: Tensor) -> Tensor:
    """Return the unbiased HSIC (Song et al. 2012) of the pair, and of each with itself."""
    grams = [features @ features.T for features in (one, other)]
    for gram in grams:
        gram.fill_diagonal_(0)
    pairs = ((grams[0], grams[1]), (grams[0], grams[0]), (grams[1], grams[1]))
    return torch.stack([_hsic(first, second) for first, second in pairs])


def _hsic(first: Tensor, second: Tensor) -> Tensor:
    n = len(first)
    together = (first * second).sum()
    apart = first.sum() * second.sum() / ((n - 1) * (n - 2))
    mixed = 2 * (first.sum(0) * second.sum(0)).sum() / (n - 2)
    return (together + apart - mixed) / (n * (n - 3))
