"""A layer's weights as images in a matplotlib figure: kernels, image filters or a matrix, before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..base.plots import BASE, TEXT, note, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

    from workbench.measure.pictures import Pictures

#: Zero, the most negative and the most positive weight, as red, green and blue.
ZERO, MINUS, PLUS = (241, 243, 245), (90, 44, 160), (194, 90, 0)


def plot_pictures(area: FigureBase, pictures: Pictures, group: int = 0) -> None:
    """Draw a page of weights before and after on one scale; zeros are pale, what was removed is hatched.

    ``group`` marks groups of so many columns: an N:M pattern close up.
    """
    strips = _strips(pictures)
    parts: Any = area.subplots(1, 2)
    for axes, codes, name in zip(parts, (pictures.before, pictures.after), ("before", "after"), strict=True):
        _draw(axes, mosaic(codes, pictures.kind, strips), name)
        if group:
            _mark(axes, codes, group, pictures.first_column)
    title(parts[0], f"{pictures.layer}, before")
    title(parts[1], "after")
    note(parts[1], f"purple −{pictures.reach:.2g} to orange {pictures.reach:.2g}")
    parts[0].set_xlabel(_range("outputs", pictures.first_output, len(pictures.before), pictures.outputs))
    columns = {"kernels": pictures.before.shape[1], "images": pictures.all_columns, "matrix": pictures.before.shape[3]}
    name = "weights" if pictures.all_columns > pictures.inputs else "inputs"
    parts[1].set_xlabel(_range(name, pictures.first_column, columns[pictures.kind], pictures.all_columns))


def mosaic(codes: NDArray[np.int8], kind: str, strips: int = 1) -> NDArray[np.uint8]:
    """Return the images of ``codes`` ``(rows, tiles, height, width)`` side by side, as RGBA ``(H, W, 4)``.

    ``strips`` rows stand beside each other before the next line. Absent weights are transparent, for what is
    drawn beneath to show; gaps are white.
    """
    rows, tiles, height, width = codes.shape
    gap = {"matrix": 0, "images": 2}.get(kind, 1)
    apart = 3 * gap if tiles > 1 else gap
    strip = tiles * (width + gap) - gap
    lines = -(-rows // strips)
    sheet = np.full((lines * (height + gap) - gap, strips * (strip + apart) - apart, 4), 255, np.uint8)
    colours = _palette()
    for row in range(rows):
        top = (row // strips) * (height + gap)
        for tile in range(tiles):
            left = (row % strips) * (strip + apart) + tile * (width + gap)
            sheet[top : top + height, left : left + width] = colours[codes[row, tile].astype(np.int16) + 128]
    return sheet


def _palette() -> NDArray[np.uint8]:
    """Return the colour of each code, ``(256, 4)``; the smallest weight is still told from zero."""
    share = np.abs(np.arange(-128, 128)) / 127
    strength = np.where(share > 0, 0.24 + 0.76 * np.minimum(share, 1) ** 0.7, 0)[:, None]
    ends = np.where(np.arange(-128, 128)[:, None] < 0, MINUS, PLUS)
    colours = np.asarray(ZERO) + (ends - np.asarray(ZERO)) * strength
    found = np.concatenate([colours, np.full((256, 1), 255)], axis=1).round().astype(np.uint8)
    found[0, 3] = 0
    return found


def _strips(pictures: Pictures) -> int:
    """Return how many rows of tiles to put side by side for about a square."""
    rows, tiles, height, width = pictures.before.shape
    if pictures.kind == "matrix":
        return 1
    square = (rows * (height + 1) / (tiles * (width + 1))) ** 0.5
    return int(max(1, min(rows, round(square))))


def _draw(axes: Axes, picture: NDArray[np.uint8], name: str) -> None:
    axes.set_facecolor("white")
    axes.patch.set(hatch="/" * 6, edgecolor=BASE, linewidth=0)
    axes.imshow(picture, interpolation="nearest", aspect="equal", zorder=2)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_label(name)


def _mark(axes: Axes, codes: NDArray[np.int8], group: int, first: int) -> None:
    for at in range(-first % group, codes.shape[3] + 1, group):
        axes.axvline(at - 0.5, color=TEXT, linewidth=0.7, zorder=3)


def _range(name: str, first: int, shown: int, total: int) -> str:
    return f"all {total:,} {name}" if shown >= total else f"{name} {first:,} to {first + shown - 1:,} of {total:,}"
