"""The technique ``quantize``: weights in fewer bits and, where asked, what enters each layer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.late import Late
from workbench.techniques.base import Cost, Dial, Technique
from workbench.techniques.context import Cache, Context
from workbench.techniques.draft import Cut, Draft
from workbench.techniques.storage import Codes

from .formats import fit_together, stored
from .grids import grid, on_grids
from .inputs import quantize_inputs
from .reconstruct import reconstruct
from .rows import Slicing
from .settings import AS_IT_IS, LEARNED, QuantizeSettings

#: The largest value of fp16.
MOST_FP16 = float(np.finfo(np.float16).max)


def apply(draft: Draft, settings: Mapping[str, QuantizeSettings], context: Context) -> None:
    """Quantize each layer's weight, then calibrate and quantize the inputs where that is asked."""
    pools: dict[QuantizeSettings, dict[str, Slicing]] = defaultdict(dict)
    _refuse_wide_groups(draft, settings)
    _tell_groups(draft, settings)
    _tell_beyond(draft, settings, context)
    learned = _learned(draft, settings, context)
    for name, chosen in settings.items():
        if chosen.bits != AS_IT_IS and name not in learned:
            pools[chosen].update(_slicings(draft, name, chosen))
    for chosen, weights in pools.items():
        how = _how(chosen)
        if _is_plain(chosen):
            for weight, codes in _quantize_together(draft, weights, chosen, context).items():
                draft.store(weight, codes, how, Late(codes.codes.shape, codes.decode))
            continue
        tensors = {name: (draft.tensors[name], draft.version(name), slicing) for name, slicing in weights.items()}
        fit_together(tensors, chosen, context.cache)
        for weight, slicing in weights.items():
            context.check()
            storage, decoded = stored(
                weight, draft.tensors[weight], draft.version(weight), slicing, chosen, context.cache
            )
            draft.store(weight, storage, how, decoded)
    for name, (codes, bias) in learned.items():
        _store_learned(draft, name, settings[name], codes, bias, context)
    with_inputs = {name: chosen.activations for name, chosen in settings.items() if chosen.activations}
    if with_inputs:
        quantize_inputs(draft, with_inputs, context)


def _learned(
    draft: Draft, settings: Mapping[str, QuantizeSettings], context: Context
) -> dict[str, tuple[Codes, Tensor | None]]:
    """Return the layers whose rounding was learned; the others of the step are rounded to nearest."""
    wanted = [name for name, chosen in settings.items() if chosen.rounding in LEARNED and chosen.bits != AS_IT_IS]
    tied = [name for name in wanted if draft.is_tied(name)]
    if tied:
        draft.notes.append(f"Rounded to nearest, since their weight is another layer's too: {', '.join(tied)}.")
    asking = {
        name: (settings[name], _slicings(draft, name, settings[name])[draft.layers[name].weight])
        for name in wanted
        if name not in tied
    }
    if not asking:
        return {}
    found = reconstruct(draft, asking, context)
    left = [name for name in asking if name not in found]
    if left:
        draft.notes.append(
            f"Rounded to nearest, since learning is for layers that are one matrix product: {', '.join(left)}."
        )
    return found


def _store_learned(
    draft: Draft, layer: str, settings: QuantizeSettings, codes: Codes, bias: Tensor | None, context: Context
) -> None:
    assert context.calibration is not None
    how = f"{_how(settings)} on {context.calibration.hash} {draft.state}"
    weight = draft.layers[layer].weight
    draft.store(weight, codes, how)
    if bias is not None:
        draft.set_tensor(f"{layer}.bias".lstrip("."), bias, how)


def _how(settings: QuantizeSettings) -> str:
    return settings.model_dump_json(exclude={"activations"})


def _is_plain(settings: QuantizeSettings) -> bool:
    """Whether only minimum and maximum of each channel or layer are needed, for all layers at once."""
    plain = settings.kind == "integer" and settings.per != "group" and settings.range == "minmax"
    return plain and settings.rounding == "nearest"


def _slicings(draft: Draft, layer: str, settings: QuantizeSettings) -> dict[str, Slicing]:
    """Return which weights of each of the layer's tensors share a scale."""
    axis = draft.output_axis(layer)
    weights = draft.layers[layer].weights
    if settings.per == "tensor" or settings.kind == "fixed":
        return dict.fromkeys(weights, Slicing())
    if settings.per == "channel":
        return dict.fromkeys(weights, Slicing(axis))
    return {name: _grouped(tuple(draft.tensors[name].shape), axis, settings.group_size) for name in weights}


def _grouped(shape: tuple[int, ...], axis: int, size: int) -> Slicing:
    """Return groups of ``size`` input channels with all their taps; one group where there are no more."""
    inputs, taps = _inputs(shape, axis)
    return Slicing(axis, size * taps) if size < inputs else Slicing(axis)


def _inputs(shape: tuple[int, ...], axis: int) -> tuple[int, int]:
    """Return how many input channels a weight has, and how many weights each of them."""
    lengths = [length for index, length in enumerate(shape) if index != axis]
    return (lengths[0] if lengths else 1), int(np.prod(lengths[1:]))


def _refuse_wide_groups(draft: Draft, settings: Mapping[str, QuantizeSettings]) -> None:
    """Raise where no layer has as many input channels as a group; layers with fewer take one group, and say so."""
    sizes: dict[int, dict[str, int]] = defaultdict(dict)
    for name, chosen in settings.items():
        if chosen.per == "group" and chosen.bits != AS_IT_IS:
            shape, axis = tuple(draft.tensors[draft.layers[name].weight].shape), draft.output_axis(name)
            sizes[chosen.group_size][name] = _inputs(shape, axis)[0]
    for size, inputs in sizes.items():
        short = [name for name, count in inputs.items() if count < size]
        most = max(inputs.values())
        if len(short) == len(inputs):
            raise WorkbenchError(
                f"A group of {size} input channels is larger than any channel: the layers have at most {most}; "
                "choose a smaller group_size, or per: channel."
            )
        if short:
            shown = ", ".join(short[:3]) + (", …" if len(short) > 3 else "")
            draft.notes.append(
                f"{len(short)} of {len(inputs)} layers have fewer than {size} input channels and take one scale "
                f"per channel: {shown}."
            )


def _tell_groups(draft: Draft, settings: Mapping[str, QuantizeSettings]) -> None:
    """Say where fewer scales than channels are kept, though one a channel is asked for."""
    modules = {
        name: draft.module(name)
        for name, chosen in settings.items()
        if chosen.bits != AS_IT_IS and chosen.per != "tensor" and chosen.kind != "fixed"
    }
    shared = [name for name, module in modules.items() if getattr(module, "groups", 1) > 1 and draft.output_axis(name)]
    if shared:
        draft.notes.append(
            "A transposed convolution in groups keeps a scale for each output of a group, which all its groups share: "
            f"{', '.join(shared)}."
        )


def _tell_beyond(draft: Draft, settings: Mapping[str, QuantizeSettings], context: Context) -> None:
    """Name the weights whose values are beyond the largest of fp16."""
    short = [name for name, chosen in settings.items() if chosen.kind == "fp16" and chosen.bits != AS_IT_IS]
    beyond = []
    for weight in dict.fromkeys(weight for name in short for weight in draft.layers[name].weights):
        values = draft.tensors[weight]
        reach = context.cache.get(("reach", draft.version(weight)), partial(_reach, values))
        if reach > MOST_FP16:
            beyond.append(f"{weight} ({reach:,.0f})")
    if beyond:
        draft.notes.append(
            f"fp16 reaches to {MOST_FP16:,.0f}, which larger weights were cut to; bf16 reaches further: "
            f"{', '.join(beyond)}."
        )


def _reach(weight: Tensor) -> float:
    return float(np.abs(weight.numpy()).max(initial=0))


def _quantize_together(
    draft: Draft, weights: Mapping[str, Slicing], settings: QuantizeSettings, context: Context
) -> dict[str, Codes]:
    """Return ``weights`` on their grids, rounding half to even.

    All of them at once: a deep model has hundreds of small ones. Of a weight whose smallest values were zeroed, the
    others have the codes that they had before, unless that took an end of a range.
    """
    cuts = {name: draft.uncut(name) for name in weights}
    scales, zero_points, moved = _grids(cuts, weights, settings, context.cache)
    keys = {name: ("codes", cut.version, weights[name], settings.bits, settings.scheme) for name, cut in cuts.items()}
    known = {name: context.cache.find(keys[name]) for name in weights if name not in moved}
    fresh = [name for name in weights if known.get(name) is None]
    tensors = [draft.tensors[name] if name in moved else cuts[name].before for name in fresh]
    on_scales, on_zeros = ([values[name] for name in fresh] for values in (scales, zero_points))
    slicings = [weights[name] for name in fresh]
    found = dict(zip(fresh, on_grids(tensors, on_scales, on_zeros, slicings, settings.bits), strict=True))
    for name in fresh:
        if name not in moved:
            known[name] = found[name]
            context.cache.put(keys[name], found[name])
    for name, codes in known.items():
        cut = cuts[name]
        found[name] = codes.leaving(cut.left()) if cut.is_cut else codes
    return {name: found[name] for name in weights}


def _grids(
    cuts: Mapping[str, Cut], weights: Mapping[str, Slicing], settings: QuantizeSettings, cache: Cache
) -> tuple[dict[str, Tensor], dict[str, Tensor], set[str]]:
    """Return scales and zero points by weight, and those whose grid is another than before they were cut."""
    key = "ranges", tuple((cut.version, weights[name]) for name, cut in cuts.items())
    low, high, sizes = cache.get(key, lambda: _ranges(cuts, weights, cache))
    low, high = low.copy(), high.copy()
    # a grid reaches to zero at least: where the end of a range was cut off, there it ends
    beyond = np.repeat(np.array([cut.threshold for cut in cuts.values()], np.float32), sizes)
    lost = [(low >= -beyond) & (low < 0), (high <= beyond) & (high > 0)]
    low[lost[0]] = high[lost[1]] = 0
    grids = grid(torch.from_numpy(low), torch.from_numpy(high), settings.bits, settings.scheme)
    scales, zero_points = (dict(zip(cuts, values.split(sizes), strict=True)) for values in grids)
    owners = np.repeat(np.arange(len(cuts)), sizes)[lost[0] | lost[1]]
    names = list(cuts)
    return scales, zero_points, {names[owner] for owner in np.unique(owners)}


def _ranges(
    cuts: Mapping[str, Cut], weights: Mapping[str, Slicing], cache: Cache
) -> tuple[NDArray[np.float32], NDArray[np.float32], list[int]]:
    """Return the ends of all slices' ranges before anything was cut, and how many slices each weight has."""
    ranges = [
        cache.get(("range", cut.version, weights[name]), partial(_span, cut.before, weights[name].axis))
        for name, cut in cuts.items()
    ]
    low, high = (np.concatenate(bounds) for bounds in zip(*ranges, strict=True))
    return low, high, [len(bounds) for bounds, _ in ranges]


def _span(weight: Tensor, axis: int | None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rows = Slicing(axis).rows(weight.numpy())
    return rows.min(axis=1), rows.max(axis=1)


def _cost(settings: QuantizeSettings) -> Cost:
    observed = settings.activations is not None and settings.activations.mode != "dynamic"
    return Cost.CALIBRATED if observed or settings.rounding in LEARNED else Cost.LIVE


QUANTIZE = Technique(
    name="quantize",
    summary="Store weights in fewer bits: integers, short floats or fitted levels; activations too where asked.",
    source="Jacob et al. 2018; Krishnamoorthi 2018; Nagel et al. 2021",
    url="https://arxiv.org/abs/1712.05877",
    settings=QuantizeSettings,
    apply=apply,
    cost=_cost,
    examples=(
        "- quantize: {bits: 8}",
        "- quantize: {bits: 4, scheme: symmetric, per: tensor}",
        "- quantize: {format: fp16}",
        "- quantize: {bits: 8, scheme: symmetric, activations: {bits: 8}}",
        "- quantize: {bits: 8, activations: {bits: 8, observer: entropy}}",
        "- quantize: {bits: 8, activations: {bits: 8, mode: dynamic}}",
        "- quantize: {bits: 3, per: group, group_size: 16, range: mse}",
        "- quantize: {bits: 2, range: mse, rounding: gptq}",
        "- quantize: {bits: 3, range: mse, rounding: adaround, iterations: 50}",
        "- quantize: {format: nf, bits: 4}",
        "- quantize: {format: kmeans, bits: 3}",
        "- quantize: {format: fp8_e4m3}",
        "- quantize: {format: fixed, bits: 8}",
        "- quantize: {format: ternary}",
        "- quantize: {format: binary, activations: {mode: binary}}",
    ),
    dial=Dial("bits", AS_IT_IS, (8, 7, 6, 5, 4, 3, 2, 1), {"format": None}),
)
