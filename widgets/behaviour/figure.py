"""A part of the comparison as a figure for a paper, from the data the page draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

Data = dict[str, Any]
SIDES = (("before", plots.BASE), ("after", plots.ACCENT))


def draw_behaviour(area: FigureBase, shown: Data, found: Data, classes: list[str], arrays: tuple[bytes, bytes]) -> None:
    """Draw the part that ``shown`` names; ``arrays`` are the maps and the pixels of an attribution."""
    draw: dict[str, Callable[[], None]] = {
        "classes": lambda: _classes(area.subplots(), found),
        "confusion": lambda: _confusion(area, found, classes),
        "calibration": lambda: _reliability(area.subplots(), found),
        "teacher": lambda: _teacher(area.subplots(), found),
        "drift": lambda: _drift(area.subplots(), found),
        "attribution": lambda: _attribution(area, found, classes, arrays),
        "corruptions": lambda: _corruptions(area, found),
    }
    draw[shown["part"]]()
    told = f"{shown['after']}, against {shown['before']}"
    area.text(0.995, 0.995, told, ha="right", va="top", fontsize=6, color=plots.MUTED)


def _classes(axes: Axes, found: Data) -> None:
    rows = sorted(found["rows"], key=lambda row: row["change"][0])
    for place, row in enumerate(rows):
        value, low, high = (100 * part for part in row["change"])
        colour = plots.SERIES[4] if row["hurt"] else plots.ACCENT
        axes.plot([low, high], [place, place], color=colour, linewidth=1.2)
        axes.plot([value], [place], "o", color=colour, markersize=3.5)
    overall = 100 * found["overall"][0]
    axes.axvline(overall, color=plots.BASE, linewidth=0.9, linestyle="--", label="all images")
    names = [f"{row['name']} (hurt)" if row["hurt"] else row["name"] for row in rows]
    axes.set_yticks(range(len(rows)), names)
    axes.invert_yaxis()
    axes.set_xlabel("Change of accuracy, points (95 %)")
    axes.legend(loc="best")


def _teacher(axes: Axes, found: Data) -> None:
    rows = sorted(found["rows"], key=lambda row: row["agree_after"][0])
    for shift, (when, colour) in zip((-0.12, 0.12), SIDES, strict=True):
        values, low, high = (100 * np.array([row[f"agree_{when}"][place] for row in rows]) for place in range(3))
        places = np.arange(len(rows)) + shift
        axes.errorbar(
            values, places, xerr=(values - low, high - values), fmt="o", color=colour, markersize=3, label=when
        )
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel(f"Same answer as {found['teacher']} (%, 95 %)")
    axes.legend(loc="best")


def _confusion(area: FigureBase, found: Data, classes: list[str]) -> None:
    axes = area.subplots()
    if found["before"] is None:
        names = [f"{classes[truth]} → {classes[answer]}" for truth, answer, *_ in found["told"]]
        moved = [after - before for *_, before, after in found["told"]]
        axes.barh(names, moved, color=plots.ACCENT)
        axes.invert_yaxis()
        axes.set_xlabel("Images, after minus before")
        return
    difference = np.array(found["after"]) - np.array(found["before"])
    most = max(1, int(np.abs(difference).max()))
    image = axes.imshow(difference, cmap="RdBu_r", vmin=-most, vmax=most)
    axes.set_xticks(range(len(classes)), classes, rotation=90)
    axes.set_yticks(range(len(classes)), classes)
    axes.set_ylabel("True class")
    area.colorbar(image, ax=axes, fraction=0.046, pad=0.02).set_label("Images, after minus before")


def _reliability(axes: Axes, found: Data) -> None:
    axes.plot([0, 1], [0, 1], color=plots.LINE, linewidth=0.9)
    for name, colour in SIDES:
        sure, right, low, high, _ = np.array(found[name]["bins"]).T
        axes.vlines(sure, low, high, color=colour, linewidth=0.8)
        label = f"{name}: ECE {100 * found[name]['error']:.2f} %"
        axes.plot(sure, right, "o-", color=colour, markersize=3, linewidth=1, label=label)
    axes.set(xlabel="Confidence", ylabel="Accuracy", aspect="equal")
    axes.legend(loc="upper left")


def _drift(axes: Axes, found: Data) -> None:
    rows = found["rows"]
    places = range(len(rows))
    for key, colour, label in (("sqnr", plots.ACCENT, "with what came before"), ("own", plots.BASE, "its own error")):
        values = [np.nan if row[key] is None else min(row[key], 60) for row in rows]
        axes.plot(places, values, "o-", color=colour, markersize=2.5, linewidth=1, label=label)
    axes.axhline(10, color=plots.LINE, linewidth=0.9, linestyle="--")
    axes.set_xticks(places, [row["name"] for row in rows], rotation=90)
    axes.set_ylabel("SQNR (dB, at most 60)")
    axes.legend(loc="best")


def _attribution(area: FigureBase, found: Data, classes: list[str], arrays: tuple[bytes, bytes]) -> None:
    maps = np.frombuffer(arrays[0], np.float32).reshape(2, *found["size"])
    pixels = np.frombuffer(arrays[1], np.uint8).reshape(found["pixels"])
    left, *others = area.subplots(1, 3)
    left.imshow(pixels.squeeze(), cmap="gray", vmin=0, vmax=255)
    plots.title(left, f"{found['image']}: {classes[found['label']] if found['label'] >= 0 else 'no label'}")
    for axes, values, name in zip(others, maps, ("Before", "After"), strict=True):
        axes.imshow(values, cmap="PuOr_r", vmin=-found["scale"], vmax=found["scale"])
        plots.title(axes, name)
    if found["similarity"] is not None:
        plots.note(others[1], f"similarity {found['similarity']:.2f}")
    for axes in (left, *others):
        axes.set(xticks=[], yticks=[])


def _corruptions(area: FigureBase, found: Data) -> None:
    names = list(dict.fromkeys(row["corruption"] for row in found["rows"] if row["strength"]))
    clean = next(row for row in found["rows"] if not row["strength"])
    panels = area.subplots(1, max(1, len(names)), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, names, strict=False):
        rows = [clean, *(row for row in found["rows"] if row["corruption"] == name)]
        for side, colour in SIDES:
            value, low, high, _ = np.array([row[side] for row in rows]).T * 100
            strengths = [row["strength"] for row in rows]
            axes.vlines(strengths, low, high, color=colour, linewidth=0.8)
            axes.plot(strengths, value, "o-", color=colour, markersize=3, linewidth=1, label=side)
        plots.title(axes, name)
        axes.set_xlabel("Strength")
    panels[0].set_ylabel("Accuracy (%)")
    panels[0].legend(loc="lower left")
