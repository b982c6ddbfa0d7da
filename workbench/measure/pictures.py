"""A layer's weights as small images, before and after a recipe, in few bytes.

A convolution is shown as its kernels, a Linear layer that reads the image as one image for each output, and
anything else as a matrix; close up, every layer is a corner of the matrix whose columns run along the
inputs, so that N:M patterns stand side by side. What is more than a page holds is cut into pages.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Kind = Literal["kernels", "images", "matrix"]

CLOSE_UP = (16, 32)
LARGEST_KERNEL = 1024
#: What stands for a weight that is not there: its channel was removed, or it is not a number.
ABSENT = -128


@dataclass(frozen=True)
class Room:
    """What a page has room for: so many ``weights``, one byte each, and kernels on ``width`` by ``height`` weights."""

    weights: int
    width: int
    height: int


LARGE, SMALL = Room(9600, 128, 128), Room(1728, 64, 48)


@dataclass(frozen=True, eq=False)
class WeightPair:
    """A layer's main weight before and after a recipe, outputs first: ``(outputs, inputs, *kernel)``.

    ``outputs`` and ``inputs`` hold the number that each remaining channel had before. The versions name
    the two tensors, so that what is computed from them can be kept. ``image`` is the shape ``(C, H, W)`` of
    what enters the layer, where that is the image itself, flattened.
    """

    layer: str
    before: Tensor
    after: Tensor
    outputs: Tensor
    inputs: Tensor
    before_version: str = ""
    after_version: str = ""
    image: tuple[int, ...] | None = None


@dataclass(frozen=True, eq=False)
class Pictures:
    """One page of a layer's weights as images.

    ``before`` and ``after`` are int8 ``(rows, tiles, height, width)``: a row is an output, a tile one of its
    kernels or image channels; a ``matrix`` has a single tile a row, 1 high. The codes are shares of
    ``reach``, the layer's largest magnitude before: 127 and -127 are at least as large, 0 is exactly zero
    and nothing else is, -128 is not there. The page begins with ``first_output`` of ``outputs`` and with
    ``first_column`` of ``all_columns``. A column is an input; in a convolution's close-up, columns run through
    the ``inputs`` for one place in the kernel after the other.
    """

    layer: str
    kind: Kind
    before: NDArray[np.int8]
    after: NDArray[np.int8]
    reach: float
    first_output: int
    outputs: int
    first_column: int
    all_columns: int
    inputs: int
    page: int
    pages: int


@dataclass(frozen=True)
class _Plan:
    """How a layer is cut: ``tile`` is (tiles of a row, height, width) of a whole page."""

    kind: Kind
    rows: int
    columns: int
    all_columns: int
    tile: tuple[int, int, int]


def picture_weights(pair: WeightPair, page: int = 0, *, close_up: bool = False, room: Room = LARGE) -> Pictures:
    """Return the page ``page`` of a layer's weights, the last one where there are fewer."""
    before, after = (tensor.detach().unsqueeze(-1).flatten(2) for tensor in (pair.before, pair.after))
    outputs, inputs, area = before.shape
    plan = _plan(pair, close_up, room)
    across = max(1, -(-plan.all_columns // plan.columns))
    pages = max(1, -(-outputs // plan.rows)) * across
    page = max(0, min(page, pages - 1))
    row, column = (page // across) * plan.rows, (page % across) * plan.columns
    rows = torch.arange(row, min(outputs, row + plan.rows))
    columns = torch.arange(column, min(plan.all_columns, column + plan.columns))
    places = _places(plan, columns, max(1, inputs), area)
    reach = _reach(pair.before)
    here = _found(pair.outputs, outputs)[rows], _found(pair.inputs, inputs)[places[0]]

    def coded(window: Tensor) -> NDArray[np.int8]:
        return _coded(window, reach).reshape(len(rows), *_tile(plan, len(columns)))

    return Pictures(
        layer=pair.layer,
        kind=plan.kind,
        before=coded(_window(before, rows, *places)),
        after=coded(_window(after, *here, places[1])),
        reach=reach,
        first_output=row,
        outputs=outputs,
        first_column=column,
        all_columns=plan.all_columns,
        inputs=inputs,
        page=page,
        pages=pages,
    )


def _plan(pair: WeightPair, close_up: bool, room: Room) -> _Plan:
    outputs, inputs, *kernel = pair.before.shape
    area = math.prod(kernel)
    if close_up:
        return _matrix(*CLOSE_UP, inputs * area)
    if 1 < area <= LARGEST_KERNEL:
        height, width = math.prod(kernel[:-1]), kernel[-1]
        columns = max(1, min(inputs, room.width // (width + 1)))
        lines, strips = max(1, room.height // (height + 1)), max(1, room.width // (columns * (width + 1)))
        rows = _round(min(room.weights // (columns * area), lines * strips), outputs)
        return _Plan("kernels", rows, columns, inputs, (columns, height, width))
    if pair.image is not None and inputs <= room.weights:
        channels, height, width = pair.image
        return _Plan("images", min(outputs, room.weights // inputs), inputs, inputs, (channels, height, width))
    rows = _round(room.weights // room.width, outputs)
    return _matrix(rows, room.width * min(2, room.weights // (rows * room.width)), inputs * area)


def _round(rows: int, outputs: int) -> int:
    """Return how many rows a page has: all, or a multiple of 4 that fits, where any does."""
    if rows >= outputs:
        return max(1, outputs)
    return max(1, rows - rows % 4 if rows > 8 else rows)


def _matrix(rows: int, columns: int, all_columns: int) -> _Plan:
    columns = max(1, min(columns, all_columns))
    return _Plan("matrix", rows, columns, all_columns, (1, 1, columns))


def _tile(plan: _Plan, columns: int) -> tuple[int, int, int]:
    """Return (tiles of a row, height, width) of a page with so many columns."""
    tiles, height, width = plan.tile
    return {"kernels": (columns, height, width), "matrix": (1, 1, columns)}.get(plan.kind, (tiles, height, width))


def _places(plan: _Plan, columns: Tensor, inputs: int, area: int) -> tuple[Tensor, Tensor]:
    """Return which input and which place in the kernel each weight of a row is."""
    if plan.kind == "kernels":
        return columns.repeat_interleave(area), torch.arange(area).repeat(len(columns))
    return columns % inputs, columns // inputs


def _found(kept: Tensor, total: int) -> Tensor:
    """Return where each of ``total`` channels is among those ``kept``; -1 for one that was removed."""
    places = torch.full((total,), -1)
    places[kept] = torch.arange(len(kept))
    return places


def _window(weights: Tensor, rows: Tensor, inputs: Tensor, area: Tensor) -> Tensor:
    """Return ``(rows, columns)`` of ``weights`` ``(outputs, inputs, kernel)``; NaN where a number is negative."""
    absent = (rows < 0)[:, None] | (inputs < 0)[None]
    if not weights.numel():
        return torch.full(absent.shape, torch.nan)
    found = weights[rows.clamp(min=0)[:, None], inputs.clamp(min=0)[None], area[None]].float()
    return found.masked_fill(absent, torch.nan)


def _coded(window: Tensor, reach: float) -> NDArray[np.int8]:
    """Return shares of ``reach`` as codes; only what is exactly zero becomes 0."""
    magnitude = (window.abs() * (127 / reach)).round().clamp(1, 127)
    codes = torch.where(window == 0, 0.0, magnitude * window.sign()).nan_to_num(nan=ABSENT)
    return np.asarray(codes.numpy(), np.float32).astype(np.int8)


def _reach(values: Tensor) -> float:
    """Return the largest finite magnitude, or 1 where there is none but zero."""
    finite = values.detach().abs().nan_to_num(0.0, 0.0, 0.0)
    return float(finite.amax()) or 1.0 if finite.numel() else 1.0
