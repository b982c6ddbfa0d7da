"""Figures for papers and for notebooks without a kernel: one style for all views.

Views draw with matplotlib's objects, never pyplot: several threads draw, and pyplot's state, like
``rcParams``, belongs to the person. What the style asks for is set on the artists, once a figure is drawn
(``finish``); a person's own choice of fonts stays.

matplotlib comes with the ``analysis`` extra and is imported when the first figure is drawn.
"""

from __future__ import annotations

import errno
import io
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase

#: Inches: one column of a paper, and both.
SINGLE, DOUBLE = 3.5, 7.2
#: How wide a notebook shows a figure, in pixels for each inch.
PIXELS = 100
#: Grey is the baseline, the accent what is compressed; they differ in lightness too, for print.
BASE, ACCENT, SOFT, TEXT, MUTED, LINE = "#98a2ad", "#0f62b8", "#cfe1f5", "#1b2430", "#5b6673", "#d9dee4"
#: More series than two: Okabe and Ito's colours, which the colour-blind tell apart.
SERIES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#5b6673")
#: What a figure can be saved as.
FORMATS = ("png", "svg", "pdf", "eps")
INSTALL = 'pip install "compression-workbench[analysis]"'


def new_figure(width: float = SINGLE, height: float = 2.4) -> Figure:
    """Return an empty figure of so many inches. Raises ``WorkbenchError`` where matplotlib is missing."""
    if find_spec("matplotlib") is None:
        raise WorkbenchError(f"Figures are drawn with matplotlib, which is not installed: {INSTALL}")
    from .paper import PaperFigure

    return PaperFigure(figsize=(width, height), layout="constrained")


def finish(figure: Figure) -> Figure:
    """Give all that was drawn on ``figure`` the common sizes and lines; return it."""
    from matplotlib.text import Text

    for axes in figure.axes:  # those of its parts too
        _style(axes)
    for text in figure.findobj(Text):
        if text.get_fontsize() == _default_size():  # sizes chosen by a view stay
            text.set_fontsize(7)
        if text.get_color() == "black":
            text.set_color(TEXT)
    return figure


def note(axes: Axes, text: str) -> None:
    """Write a short remark above the right end of ``axes``."""
    axes.text(1, 1.02, text, transform=axes.transAxes, ha="right", va="bottom", fontsize=6.5, color=MUTED)


def title(axes: Axes, text: str) -> None:
    """Write what ``axes`` show above their left end."""
    axes.set_title(text, loc="left", fontsize=8, fontweight="bold", color=TEXT, pad=4)


def legend_below(area: FigureBase, axes: Axes, columns: int = 2) -> None:
    """Put the legend of ``axes`` below them, where it covers nothing: areas first, then lines."""
    from matplotlib.lines import Line2D

    entries = sorted(
        zip(*axes.get_legend_handles_labels(), strict=True), key=lambda entry: isinstance(entry[0], Line2D)
    )
    handles, labels = [entry[0] for entry in entries], [entry[1] for entry in entries]
    legend = area.legend(
        handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=6.5, handlelength=1.4,
        borderaxespad=0.1, columnspacing=1.4, labelspacing=0.25, borderpad=0.2,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_color(TEXT)


def save(figure: Figure, path: str | Path, about: str = "") -> Path:
    """Write ``figure`` in the format that the suffix names, and return the path; ``about`` goes into its metadata.

    Raises ``WorkbenchError`` for a format that is not known, and where the file cannot be written.
    """
    from matplotlib import rc_context

    path = Path(path).expanduser()
    suffix = path.suffix.lower().lstrip(".")
    if suffix not in FORMATS:
        known = ", ".join(f".{name}" for name in FORMATS)
        raise WorkbenchError(f"A figure is saved as {known}; '{path.name}' ends in none of them.")
    target = io.BytesIO()
    # text stays text: it can be searched and edited, and journals accept its fonts
    with rc_context({"svg.fonttype": "none", "pdf.fonttype": 42, "ps.fonttype": 42}):
        field = {"pdf": "Subject", "eps": "Creator"}.get(suffix, "Description")
        figure.savefig(target, format=suffix, dpi=300, metadata={field: about} if about else None)
    try:
        path.write_bytes(target.getvalue())
    except OSError as error:
        raise WorkbenchError(_why_not_written(path, error)) from error
    return path


def png(figure: Figure, about: str = "", dpi: float = 144) -> bytes:
    """Return ``figure`` as the bytes of a PNG file, with ``about`` in its metadata."""
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=dpi, facecolor="white", metadata={"Description": about})
    return target.getvalue()


def in_bytes(size: float) -> str:
    """Return a size for a label: 812 B, 9.66 kB, 1.07 MB."""
    if size < 1e3:
        return f"{size:.0f} B"
    value, unit = (size / 1e3, "kB") if size < 1e6 else (size / 1e6, "MB")
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"


def _style(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    for spine in axes.spines.values():
        spine.set(color=MUTED, linewidth=0.6)
    axes.tick_params(which="both", labelsize=6.5, width=0.6, color=MUTED, labelcolor=TEXT, pad=2)
    axes.tick_params(which="major", length=2.5)
    axes.tick_params(which="minor", length=1.5)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set(fontsize=7, color=TEXT)
        axis.labelpad = 3
    legend = axes.get_legend()
    if legend is not None:
        legend.set_frame_on(False)
        for text in legend.get_texts():
            text.set(fontsize=6.5, color=TEXT)


def _default_size() -> float:
    from matplotlib.font_manager import FontProperties

    size: float = FontProperties().get_size_in_points()
    return size


def _why_not_written(path: Path, error: OSError) -> str:
    if not path.parent.is_dir():
        return f"There is no folder '{path.parent}' to save the figure in."
    if error.errno == errno.ENOSPC:
        return f"The disk is full: '{path.name}' was not saved."
    if isinstance(error, PermissionError):
        return f"'{path}' cannot be written: permission denied."
    return f"'{path}' cannot be written: {error.strerror or error}."
