"""The whole Workbench as one matplotlib figure: what was done to which model, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..base.plots import MUTED

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

    from workbench.session import Session

    from ..base.view import View

#: A longer recipe is cut in the heading.
HEADING = 120


def plot_page(area: FigureBase, scoreboard: View, layers: View, weights: View) -> None:
    """Draw the headline figures above; the layers and the selected layer's weights below."""
    session = scoreboard.session
    assert session is not None
    heading, scores, rest = _parts(area, (0.16, 1.0, 2.6))
    name, recipe = _heading(session)
    heading.text(0.008, 0.5, name, fontsize=8.5, fontweight="bold", va="center")
    heading.text(0.992, 0.5, recipe, fontsize=6.5, color=MUTED, va="center", ha="right", family="monospace")
    scoreboard.plot(scores)
    if layers._has_figure():
        left, right = _parts(rest, (1, 1), across=True)
        layers.plot(left)
        weights.plot(right)
    else:
        weights.plot(rest)


def _parts(area: FigureBase, shares: Sequence[float], across: bool = False) -> list[FigureBase]:
    """Return parts of ``area``, one below the other or side by side."""
    if across:
        found: Any = area.subfigures(1, len(shares), width_ratios=shares)
    else:
        found = area.subfigures(len(shares), 1, height_ratios=shares)
    return list(found)


def _heading(session: Session) -> tuple[str, str]:
    steps = [json.dumps(step) for step in session.snapshot.recipe.to_data()]
    recipe = ", ".join(step.replace('"', "").strip("{}") + ("}" if "{" in step[1:] else "") for step in steps)
    shown = recipe if len(recipe) <= HEADING else recipe[: HEADING - 1] + "…"
    return f"{session.model.name} on {session.data.name}", shown or "uncompressed"
