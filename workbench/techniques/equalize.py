"""Cross-layer equalization: move factors between layers so that their channels span like ranges.

A ReLU lets a positive factor pass, so what a channel's filter is divided by, the layer that reads the channel
can be multiplied by: the model computes the same, and one scale fits all of a layer's weights better
(Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction").
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.models.chains import Pair, columns_of, find_pairs, scaled_columns
from workbench.models.edits import QuantizeInput

from .base import Cost, Settings, Technique
from .context import Context
from .draft import Draft


class EqualizeSettings(Settings):
    """Settings of ``equalize``."""

    rounds: int = Field(20, ge=1, le=200, description="Times to go over all pairs of layers, at most.")
    balance_rows: bool = Field(
        True, description="Also give all filters in front of a BatchNorm one range, which the BatchNorm makes up for."
    )


def apply(draft: Draft, settings: Mapping[str, EqualizeSettings], context: Context) -> None:
    """Scale the layers of ``settings`` that are joined to one another; all else stays as it is.

    Raises ``WorkbenchError`` where they are quantized already.
    """
    if not settings:
        return
    chosen = next(iter(settings.values()))
    pairs = [pair for pair in pairs_of(draft, context) if pair.first in settings and pair.second in settings]
    if not pairs:
        draft.notes.append("Nothing to equalize: no two of the layers are joined by a ReLU or less alone.")
        return
    refuse_quantized(draft, pairs, "equalize")
    how = f"equalize {chosen!r} {draft.state}"
    tensors = tensors_of(draft, pairs)
    changed = context.cache.get(
        ("equalized", draft.state, chosen, tuple(settings)), lambda: _equalize(tensors, pairs, chosen)
    )
    for name, value in changed.items():
        draft.rewrite(name, value, how)


def tensors_of(draft: Draft, pairs: list[Pair]) -> dict[str, Tensor]:
    """Return the tensors of all that ``pairs`` name."""
    layers = [layer for pair in pairs for layer in (pair.first, pair.second, pair.norm)]
    names = [f"{layer}.{part}" for layer in layers for part in ("weight", "bias", "running_mean", "running_var")]
    return {name: draft.tensors[name] for name in names if name in draft.tensors}


def pairs_of(draft: Draft, context: Context) -> tuple[Pair, ...]:
    """Return the joined layers of the present structure, found once for each state of the model."""
    return context.cache.get(("pairs", draft.state), lambda: find_pairs(draft.build(), draft.stacked))


def refuse_quantized(draft: Draft, pairs: list[Pair], step: str) -> None:
    """Raise where a layer of ``pairs`` is on a grid already, which ``step`` would take it off."""
    layers = {layer for pair in pairs for layer in (pair.first, pair.second)}
    rounded = {edit.layer for edit in draft.edits if isinstance(edit, QuantizeInput)}
    for layer in sorted(layers):
        if f"{layer}.weight" in draft.stored or layer in rounded:
            raise WorkbenchError(
                f"Layer '{layer}' is quantized already, and this step would take it off its grid: put {step} "
                "before quantize."
            )


def _equalize(tensors: Mapping[str, Tensor], pairs: list[Pair], settings: EqualizeSettings) -> dict[str, Tensor]:
    """Return the changed tensors."""
    present = dict(tensors)
    for _ in range(settings.rounds):
        largest = max(_balance(present, pair) for pair in pairs)
        if largest < 1e-3:
            break
    if settings.balance_rows:
        for pair in pairs:
            _balance_rows(present, pair)
    return {name: value for name, value in present.items() if value is not tensors[name]}


def _balance(tensors: dict[str, Tensor], pair: Pair) -> float:
    """Give each channel of the pair one range on both sides; return how far they were apart, as |log factor|."""
    gain = _gain(tensors, pair)
    rows = tensors[f"{pair.first}.weight"].flatten(1).abs().amax(1) * gain
    columns = columns_of(tensors[f"{pair.second}.weight"], pair).abs().amax(1)
    usable = (rows > 0) & (columns > 0) & rows.isfinite() & columns.isfinite()
    factors = torch.where(usable, (rows / columns).sqrt(), torch.ones_like(rows))
    move_factors(tensors, pair, factors)
    return float(factors.log().abs().max())


def move_factors(tensors: dict[str, Tensor], pair: Pair, factors: Tensor) -> None:
    """Divide what the first layer gives by ``factors`` ``(channels,)``, and multiply what reads it, in ``tensors``."""
    _scale_rows(tensors, pair.first, 1 / factors)
    shifts = [f"{pair.first}.bias"]
    if pair.norm is not None:
        shifts += [f"{pair.norm}.running_mean", f"{pair.norm}.bias"]
    for part in shifts:
        _scale(tensors, part, 1 / factors)
    name = f"{pair.second}.weight"
    tensors[name] = scaled_columns(tensors[name], factors, pair)


def _balance_rows(tensors: dict[str, Tensor], pair: Pair) -> None:
    """Give all filters of the first layer the range of the widest; its BatchNorm takes the factor back."""
    if pair.norm is None:
        return
    rows = tensors[f"{pair.first}.weight"].flatten(1).abs().amax(1)
    factors = torch.where(rows > 0, rows.max() / rows, torch.ones_like(rows)).clamp_max(1e4)
    _scale_rows(tensors, pair.first, factors)
    for part in (f"{pair.first}.bias", f"{pair.norm}.running_mean"):
        _scale(tensors, part, factors)
    _scale(tensors, f"{pair.norm}.weight", 1 / factors)


def _gain(tensors: Mapping[str, Tensor], pair: Pair) -> Tensor | float:
    """Return what the BatchNorm multiplies each channel by; 1 without one."""
    if pair.norm is None:
        return 1.0
    deviation = (tensors[f"{pair.norm}.running_var"] + 1e-5).sqrt()
    return tensors[f"{pair.norm}.weight"].abs() / deviation


def _scale_rows(tensors: dict[str, Tensor], layer: str, factors: Tensor) -> None:
    weight = tensors[f"{layer}.weight"]
    tensors[f"{layer}.weight"] = weight * factors.view(-1, *[1] * (weight.ndim - 1))


def _scale(tensors: dict[str, Tensor], name: str, factors: Tensor) -> None:
    if name in tensors:
        tensors[name] = tensors[name] * factors


def _cost(settings: EqualizeSettings) -> Cost:
    return Cost.LIVE


EQUALIZE = Technique(
    name="equalize",
    summary="Scale channels between layers so that one grid fits a whole layer; the model computes the same.",
    source="Nagel et al. 2019",
    url="https://arxiv.org/abs/1906.04721",
    settings=EqualizeSettings,
    apply=apply,
    cost=_cost,
    examples=("- equalize: {}\n- quantize: {bits: 4, per: tensor}",),
)
