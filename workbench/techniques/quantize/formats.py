"""A weight in the format its settings name: what is fitted to it is kept, the rounding is done anew."""

from __future__ import annotations

import math
import zlib
from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workbench.techniques.context import Cache
from workbench.techniques.kmeans import SortedValues
from workbench.techniques.storage import Cast, Storage, TernaryCodes

from .grids import Round, grid, grid_errors, on_grid
from .ranges import best_shares, entropy_shares, percentile_span, sketches_of, span
from .rows import Floats, Slicing, fit_rows
from .settings import RANGELESS, QuantizeSettings
from .tables import binary, fit_scale, in_order, lloyd, on_table, table_of

#: Ternary weights are those beyond this share of the mean magnitude (Li et al. 2016, TWN).
TERNARY_SHARE = 0.7


def stored(
    name: str, weight: Tensor, version: str, slicing: Slicing, settings: QuantizeSettings, cache: Cache
) -> tuple[Storage, Tensor]:
    """Return how ``weight`` is stored under ``settings``, and the float32 values that decodes to."""
    kind, bits = settings.kind, settings.bits
    if kind in ("fp16", "bf16"):
        cast = Cast.of(weight, torch.float16 if kind == "fp16" else torch.bfloat16)
        return cast, cast.values
    if kind in ("integer", "fixed", "ternary"):
        scale, zero_point = cache.get(_key(version, slicing, settings), partial(_fit_grid, weight, slicing, settings))
        if kind == "ternary":
            return _ternary(weight, scale, slicing)
        return on_grid(weight, scale, zero_point, slicing, bits, rounding_of(name, settings))
    if kind == "binary":
        table = binary(weight, slicing)
    elif kind == "kmeans":
        scales, ordered = _in_order(weight, version, slicing, cache)
        levels = cache.get(_key(version, slicing, settings), lambda: lloyd([ordered], bits)[0])
        if len(levels) == 256 and len(ordered) < weight.numel():
            levels = np.delete(levels, np.abs(levels).argmin())  # one code is left to zero
        table = on_table(weight, scales, levels, slicing, bits)
    else:
        values = table_of(settings)
        rows = slicing.rows(weight.numpy())
        scales = cache.get(_key(version, slicing, settings), partial(fit_scale, rows, values, settings))
        table = on_table(weight, scales, values, slicing, bits)
    return table, table.decode()


def fit_together(weights: Mapping[str, tuple[Tensor, str, Slicing]], settings: QuantizeSettings, cache: Cache) -> None:
    """Fit what ``stored`` would to all ``weights`` (name → its values, version and slicing) not in the cache yet.

    Together, which takes a fraction of the time that one after the other would.
    """
    if settings.kind in ("fixed", "ternary") or (settings.kind in RANGELESS and settings.kind != "kmeans"):
        return
    missing = {}
    for weight, version, slicing in weights.values():
        key = _key(version, slicing, settings)
        if key not in cache:
            missing[key] = weight, version, slicing
    if settings.kind == "kmeans":
        ordered = [_in_order(*tensor, cache)[1] for tensor in missing.values()]
        fitted: Sequence[Any] = lloyd(ordered, settings.bits)
    else:
        fitted = _fit_rows([slicing.rows(weight.numpy()) for weight, _, slicing in missing.values()], settings)
    for key, found in zip(missing, fitted, strict=True):
        cache.get(key, partial(_given, found))


def _given(found: Any) -> Any:
    return found


def _key(version: str, slicing: Slicing, settings: QuantizeSettings) -> Hashable:
    """Return the name under which what is fitted to a weight is kept: all that it depends on."""
    kind, bits = settings.kind, settings.bits
    if kind == "kmeans":
        return "levels", version, slicing, bits
    chosen = kind, bits, settings.scheme, settings.range, settings.percentile, settings.fraction_bits
    return "fitted", version, slicing, chosen


def _in_order(weight: Tensor, version: str, slicing: Slicing, cache: Cache) -> tuple[Floats, SortedValues]:
    return cache.get(("in order", version, slicing), partial(in_order, weight, slicing))


def _fit_rows(matrices: Sequence[Floats], settings: QuantizeSettings) -> list[Any]:
    """Return the grid or the scales of each of ``matrices``, whose rows share one each."""
    if settings.kind != "integer":
        table = table_of(settings)
        return fit_rows(matrices, lambda rows: fit_scale(rows, table, settings))
    found: dict[int, tuple[Tensor, Tensor]] = {}
    signed = [settings.range == "entropy" and _is_signed(rows) for rows in matrices]
    for sign in set(signed):
        places = [place for place, own in enumerate(signed) if own == sign]
        ranges = fit_rows([matrices[place] for place in places], partial(_bounds, settings=settings, signed=sign))
        for place, (low, high) in zip(places, ranges, strict=True):
            found[place] = grid(torch.from_numpy(low), torch.from_numpy(high), settings.bits, settings.scheme)
    return [found[place] for place in range(len(matrices))]


def rounding_of(name: str, settings: QuantizeSettings) -> Round | None:
    """Return how values between two levels are rounded; None for the nearest."""
    if settings.rounding != "stochastic":
        return None
    generator = np.random.default_rng([settings.seed, zlib.crc32(name.encode())])
    return lambda values: np.floor(values + generator.random(values.shape, np.float32))


def fit_range(rows: Floats, settings: QuantizeSettings, signed: bool | None = None) -> tuple[Floats, Floats]:
    """Return the range of each row that ``settings.range`` chooses.

    ``signed`` says whether the weights they are of lie on both sides of zero; unless said, whether ``rows`` do.
    """
    if settings.range == "percentile":
        return percentile_span(rows, settings.percentile)
    low, high = span(rows)
    if settings.range == "entropy":
        signed = _is_signed(rows) if signed is None else signed
        shares = entropy_shares(rows, 2 ** (settings.bits - 1 if signed else settings.bits))
        reach = np.maximum(np.abs(low), np.abs(high)) * shares
        return np.maximum(low, -reach), np.minimum(high, reach)
    if settings.range == "mse":
        bits, scheme = settings.bits, settings.scheme

        def errors(part: Floats, share: Floats) -> NDArray[np.floating]:
            return grid_errors(part, low * share, high * share, bits, scheme)

        shares = best_shares(partial(errors, rows), len(rows), sketches_of(rows, errors))
        return low * shares, high * shares
    return low, high


def _bounds(rows: Floats, settings: QuantizeSettings, signed: bool) -> Floats:
    return np.stack(fit_range(rows, settings, signed))


def _is_signed(rows: Floats) -> bool:
    return bool((rows < 0).any() and (rows > 0).any())


def _fit_grid(weight: Tensor, slicing: Slicing, settings: QuantizeSettings) -> tuple[Tensor, Tensor]:
    rows = slicing.rows(weight.numpy())
    if settings.kind == "ternary":
        return _ternary_scale(rows), torch.empty(0)
    low, high = fit_range(rows, settings)
    if settings.kind == "fixed":
        return _fixed_point(rows, float(np.maximum(-low, high).max()), settings)
    return grid(torch.from_numpy(low), torch.from_numpy(high), settings.bits, settings.scheme)


def _fixed_point(rows: Floats, reach: float, settings: QuantizeSettings) -> tuple[Tensor, Tensor]:
    """Return step and zero of Qm.n: two's complement integers times ``2**-n``.

    Unless n is chosen it is the one, from that which holds the whole range to that which clips an eighth
    of it, with the least squared error.
    """
    bits = settings.bits
    middle = torch.tensor([2.0 ** (bits - 1)])
    if settings.fraction_bits is not None:
        return torch.tensor([2.0**-settings.fraction_bits]), middle
    whole = bits - 1 - math.ceil(math.log2(reach)) if reach > 0 else 0
    candidates = [2.0 ** -min(31, max(-16, whole + more)) for more in range(4)]
    return torch.tensor([min(candidates, key=lambda step: _fixed_error(rows, step, bits))]), middle


def _fixed_error(rows: Floats, step: float, bits: int) -> float:
    codes = np.clip(np.rint(rows / np.float32(step)), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return float(np.square(codes * np.float32(step) - rows, dtype=np.float64).sum())


def _ternary_scale(rows: Floats) -> Tensor:
    """Return each row's threshold and the mean magnitude of what is beyond it, ``(2, slices)``.

    Weights that are zero, pruned before, do not count among those whose mean sets the threshold.
    """
    magnitudes = np.abs(rows)
    used = np.maximum(np.count_nonzero(rows, axis=1), 1)
    threshold = np.float32(TERNARY_SHARE) * magnitudes.sum(axis=1) / used
    beyond = magnitudes > threshold[:, None]
    mean = (magnitudes * beyond).sum(axis=1) / np.maximum(beyond.sum(axis=1), 1)
    return torch.from_numpy(np.stack([threshold, mean]).astype(np.float32))


def _ternary(weight: Tensor, fitted: Tensor, slicing: Slicing) -> tuple[Storage, Tensor]:
    threshold, scale = fitted
    rows = slicing.rows(weight.numpy())
    signs = np.sign(rows) * (np.abs(rows) > threshold.numpy()[:, None])
    codes = slicing.weight((signs + 1).astype(np.uint8), tuple(weight.shape))
    storage = TernaryCodes(torch.from_numpy(codes), scale, torch.ones_like(scale), slicing.axis, 2, slicing.group)
    return storage, storage.decode()
