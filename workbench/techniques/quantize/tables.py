"""Weights as values of a table: fp8, powers of two, normal quantiles, k-means levels, signs.

A row of weights is divided by its scale and takes the nearest value of the table. Signs are those of
XNOR-Net (Rastegari et al. 2016); k-means is Lloyd's algorithm on the layer's scaled weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workbench.encodings.tables import named_table
from workbench.techniques.kmeans import SortedValues, cluster_all, start_all
from workbench.techniques.storage import TableCodes

from .grids import row_squares
from .ranges import best_shares, entropy_shares, percentile_span, sketches_of
from .rows import Floats, Slicing
from .settings import QuantizeSettings

Table = NDArray[np.float32] | str

FLOATS = {"fp8_e4m3": ("e4m3", torch.float8_e4m3fn, 448.0), "fp8_e5m2": ("e5m2", torch.float8_e5m2, 57344.0)}
_FLOAT_NAMES = tuple(name for name, _, _ in FLOATS.values())
#: Lloyd's algorithm stops after this many rounds, or when no level moves.
ROUNDS = 50
#: Cells of the range of a table, and how many of its middles a number's may hold so that they are compared.
CELLS, STEPS = 4096, 8


def table_of(settings: QuantizeSettings) -> Table:
    """Return the values of a format whose table does not depend on the weights."""
    return _table(settings.kind, settings.bits)


@lru_cache  # each weight asks for it
def _table(kind: str, bits: int) -> Table:
    if kind in FLOATS:
        return FLOATS[kind][0]
    if kind == "nf":
        return "nf4" if bits == 4 else normal_quantiles(bits)
    return f"{kind}{bits}"


def normal_quantiles(bits: int) -> NDArray[np.float32]:
    """Return ``2**bits`` quantiles of a normal distribution scaled to ±1, zero among them.

    Dettmers et al. 2023, QLoRA: one more above zero than below, the outermost at the middle of the last
    equally likely intervals.
    """
    edge = 1 - (1 / (2 * 2**bits) + 1 / (2 * (2**bits - 1))) / 2
    half = 2 ** (bits - 1)
    above = torch.special.ndtri(torch.linspace(edge, 0.5, half + 1, dtype=torch.float64)[:-1])
    below = -torch.special.ndtri(torch.linspace(edge, 0.5, half, dtype=torch.float64)[:-1])
    values = torch.cat([above, below, torch.zeros(1, dtype=torch.float64)]).sort().values
    return np.asarray((values / values.abs().max()).float().numpy())


def fit_scale(rows: Floats, table: Table, settings: QuantizeSettings) -> Floats:
    """Return the scale of each row: its range, as ``settings.range`` chooses it, over the table's largest value."""
    reach = np.abs(rows).max(axis=1)
    top = float(np.abs(_values(table)).max())
    if settings.range == "percentile":
        low, high = percentile_span(rows, settings.percentile)
        reach = np.maximum(-low, high)
    elif settings.range == "entropy":
        reach = reach * entropy_shares(rows, 2 ** (settings.bits - 1))
    elif settings.range == "mse":
        if isinstance(table, str) and table in _FLOAT_NAMES:

            def errors(part: Floats, shares: Floats) -> NDArray[np.floating]:
                scales = (reach * shares / top)[:, :, None]
                rounded = (_values(table)[nearest(part, scale, table)] * scale for scale in scales)
                return np.stack([row_squares(values - part) for values in rounded])

        else:
            near = _nearly(settings.kind, settings.bits)

            def errors(part: Floats, shares: Floats) -> NDArray[np.floating]:
                return near.squares(part, reach * shares / top)

        reach = reach * best_shares(partial(errors, rows), len(rows), sketches_of(rows, errors))
    return np.asarray(reach / top, np.float32)


class _Nearly:
    """The values of a table nearest to numbers, by a look-up at their place among ``CELLS`` equal cells.

    A number in a cell with a border between two values may take the wrong one, which then is hardly farther
    away: good enough to compare scales by.
    """

    CELLS = 2048

    def __init__(self, values: Floats) -> None:
        self._low, self._step = values[0], (values[-1] - values[0]) / np.float32(self.CELLS - 1)
        middles = (values[1:] + values[:-1]) / 2
        centres = self._low + self._step * np.arange(self.CELLS, dtype=np.float32)
        self._places = self._place(values)[np.searchsorted(middles, centres)]

    def _place(self, values: Floats) -> Floats:
        return np.asarray(values / self._step + (np.float32(0.5) - self._low / self._step))

    def squares(self, rows: Floats, scales: Floats) -> Floats:
        """Return each row's squared distance to the table's values times its ``scales``, all ``(tries, slices)``."""
        cells = np.where(scales > 0, scales, 1) * self._step
        found, shift = np.empty_like(cells), np.float32(0.5) - self._low / self._step
        places, values = np.empty_like(rows), np.empty_like(rows)
        for own, each in zip(found, (1 / cells)[:, :, None], strict=True):
            np.multiply(rows, each, out=places)
            places += shift
            # what is beyond the table takes its ends
            self._places.take(places.astype(np.int32), mode="clip", out=values)
            values -= places
            np.einsum("ij,ij->i", values, values, out=own)
        return np.asarray(found * np.square(cells))


@lru_cache
def _nearly(kind: str, bits: int) -> _Nearly:
    return _Nearly(_values(_table(kind, bits)))


def nearest(rows: Floats, scale: Floats, table: Table) -> NDArray[np.uint8]:
    """Return the code of the table's value nearest to each weight over its row's ``scale`` ``(slices, 1)``."""
    scaled = rows / np.where(scale > 0, scale, 1)
    for name, dtype, top in FLOATS.values():
        if isinstance(table, str) and table == name:
            clipped = torch.from_numpy(np.clip(scaled, -top, top))
            codes: NDArray[np.uint8] = clipped.to(dtype).view(torch.uint8).numpy()
            return np.where(codes == 0x80, np.uint8(0), codes)  # minus zero is zero
    values = _values(table)
    return number_below((values[1:] + values[:-1]) / 2, scaled).astype(np.uint8)


def number_below(middles: NDArray[np.floating], numbers: NDArray[np.floating]) -> NDArray[np.integer[Any]]:
    """Return how many of ``middles``, ascending, are below each of ``numbers``, as ``searchsorted`` does.

    Numbers begin at what is below the cell next to theirs, of ``CELLS`` equal ones, and go up by comparison: much
    faster than a search where few middles share a cell.
    """
    if len(middles) < 2 or numbers.size < CELLS:
        return np.searchsorted(middles, numbers)
    step = (middles[-1] - middles[0]) / np.float32(CELLS - 2)
    edges = middles[0] + step * np.arange(-2, CELLS, dtype=np.float32)
    below = np.searchsorted(middles, edges)
    most = int((below[3:] - below[:-3]).max())
    if not step > 0 or most > STEPS:
        return np.searchsorted(middles, numbers)
    places = numbers * (1 / step)
    places += np.float32(1) - middles[0] / step
    np.clip(places, np.float32(0), np.float32(CELLS - 1), out=places)
    found = below.astype(np.int32).take(places.astype(np.int32))
    ends = np.append(middles, np.float32(np.inf))
    for _ in range(most):
        found += numbers > ends.take(found)
    return np.asarray(found)


def on_table(weight: Tensor, scale: Floats, table: Table, slicing: Slicing, bits: int) -> TableCodes:
    """Return ``weight`` as values of ``table``; where the table has no zero, weights that are zero stay it."""
    codes = nearest(slicing.rows(weight.numpy()), scale[:, None], table)
    stored = torch.from_numpy(slicing.weight(codes, tuple(weight.shape)))
    kept = None if (_values(table) == 0).any() else _nonzero(weight)
    return TableCodes(stored, table, torch.from_numpy(scale), slicing.axis, bits, slicing.group, kept)


def binary(weight: Tensor, slicing: Slicing) -> TableCodes:
    """Return the signs of ``weight`` times each row's mean magnitude, which is the nearest such weight."""
    rows = slicing.rows(weight.numpy())
    used = np.count_nonzero(rows, axis=1)
    scale = (np.abs(rows).sum(axis=1) / np.maximum(used, 1)).astype(np.float32)
    codes = torch.from_numpy(slicing.weight((rows > 0).astype(np.uint8), tuple(weight.shape)))
    return TableCodes(codes, "sign", torch.from_numpy(scale), slicing.axis, 1, slicing.group, _nonzero(weight))


def lloyd(runs: Sequence[SortedValues], bits: int) -> list[NDArray[np.float32]]:
    """Return for each of ``runs`` at most ``2**bits`` levels that its values lie near, in the least squares.

    They start evenly between minimum and maximum, as in Deep Compression (Han et al. 2016), and end where
    each is the mean, by weight, of the values nearest to it (Lloyd 1982). Nothing but zeros has one level.
    """
    centres = cluster_all(runs, start_all(runs, "linear", 2**bits, 0), ROUNDS, refill=False).astype(np.float32)
    return [found[np.append(True, found[1:] != found[:-1])] for found in centres]


def in_order(weight: Tensor, slicing: Slicing) -> tuple[Floats, SortedValues]:
    """Return the scale of each row, and the layer's scaled weights that are not zero, in order.

    Rows are divided by their largest magnitude, and count by its square, so that the squared error of the
    weights is what levels make small.
    """
    rows = slicing.rows(weight.numpy())
    used = rows != 0
    if slicing.axis is None:
        return np.ones(1, np.float32), SortedValues(rows[used])
    reach = np.abs(rows).max(axis=1)
    scale = np.where(reach > 0, reach, 1).astype(np.float32)
    counts = np.broadcast_to(scale[:, None] ** 2, rows.shape)[used]
    return scale, SortedValues((rows / scale[:, None])[used], counts)


def _nonzero(weight: Tensor) -> Tensor | None:
    """Return which weights are not zero; None where all are."""
    kept = weight != 0
    return None if bool(kept.all()) else kept


def _values(table: Table) -> NDArray[np.float32]:
    return named_table(table) if isinstance(table, str) else table
